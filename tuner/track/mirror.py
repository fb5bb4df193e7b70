"""MLflow as an image of the ledger, made again and again by one pass that sends only what is missing.

The ledger knows everything, so nothing else has to be remembered: a pass compares it with what MLflow holds and
sends the
difference. A pass that was killed, a server that was away or a search that was resumed leave nothing double and
nothing out.
"""

import datetime
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from tuner.errors import LedgerError, SearchNotFoundError, TrackingError
from tuner.track.address import hide_password
from tuner.track.artifacts import CARD
from tuner.track.best import find_front, rank_trials
from tuner.track.ledger import FINAL, Ledger, StageLedger, TrialRecord
from tuner.track.registry import register

_LATE_S = 15.0  # a request that is given up after 10 s has arrived by then, or never will
_BATCH = 800  # metrics: with 100 params and 100 tags a batch has the 1,000 that it may have
_STATUS = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "running": "RUNNING",
    "paused": "RUNNING",
}
_OPEN = {"running", "paused"}  # trials that have not ended
_REMEDIES = {
    401: "it wants a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "it does not serve this name of itself: start it with mlflow server --allowed-hosts HOST:PORT, or use the "
    "name that it knows",
}
_ELSE = "start it (tuner ui, or mlflow/README.md), mend MLFLOW_TRACKING_URI, or search with --set tracking.mlflow=off"


@dataclass
class _Run:
    """What MLflow holds of a trial or a stage.

    ``epochs`` is None until MLflow has been asked; the state is the last one sent.
    """

    run_id: str
    epochs: int | None
    state: str


class Mirror:
    """Keeps the experiment of one search like its ledger.

    Parameters
    ----------
    ledger : Ledger
        The search's record.
    folder : Path
        The search's folder; ``artifacts/STAGE`` in it is sent when a stage has ended.
    tracking_uri : str
        MLflow's store or server.
    """

    def __init__(self, ledger: Ledger, folder: Path, tracking_uri: str) -> None:
        self._ledger = ledger
        self._folder = folder
        self._uri = tracking_uri
        self._opened: MlflowClient | None = None
        self._runs: dict[tuple[str, int | None], _Run] = {}
        self._experiment_id: str | None = None
        self._has_doubts = False  # whether something was sent of which it is not known when it arrived
        self._trouble_at = -math.inf
        self._outcomes_sent: dict[str, int] = {}

    def sync(self, *, settle: bool = False) -> None:
        """Send what MLflow lacks.

        Parameters
        ----------
        settle : bool
            Whether nobody trains any more: what still runs by the ledger was interrupted.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        TrackingError
            If MLflow is away or refuses; what was sent stays sent, the rest waits for the next pass.

        Notes
        -----
        A server that did not answer may still do what it was asked, and do it after it was asked again: a server that
        stood still has it waiting. A point that comes twice is one in MLflow's tables, for its time and value are the
        ledger's. A run that comes twice is deleted, and a status that comes late is set again: once anything went
        wrong, a pass that settles asks MLflow first what it holds.
        """
        try:
            if settle and self._has_doubts:
                self._forget()
            stages = [(stage, stage.attributes) for stage in self._ledger.everything()]
            for stage, attributes in stages:
                if self._experiment_id is None:
                    self._discover(stage.search, attributes["search_id"])
                self._sync_stage(stage, attributes, settle)
            self._sync_outcomes(stages)
        except LedgerError:
            raise
        except Exception as error:  # a store is SQL, HTTP or a plugin, each with errors of its own
            self._forget()
            self._has_doubts, self._trouble_at = True, time.monotonic()
            said = f"MLflow at {self._uri} does not take what was recorded: {error}"
            raise TrackingError(hide_password(said)) from error

    def send_report(self, path: Path) -> bool:
        """Send a file to the parent run of the last stage that has one.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether there is such a run: a search that was never tracked has none.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        TrackingError
            If MLflow is away or refuses.
        """
        try:
            for stage in reversed(self._ledger.stages()):
                if self._experiment_id is None:
                    self._discover(stage.search, stage.attributes["search_id"])
                if (parent := self._runs.get((stage.name, None))) is not None:
                    self._client.log_artifact(parent.run_id, str(path))
                    return True
        except LedgerError:
            raise
        except Exception as error:  # a store is SQL, HTTP or a plugin, each with errors of its own
            raise TrackingError(hide_password(f"MLflow at {self._uri} does not take {path}: {error}")) from error
        return False

    @property
    def name(self) -> str:
        """What people know it as."""
        return f"MLflow at {hide_password(self._uri)}"

    @property
    def is_doubtful(self) -> bool:
        """Whether something that was sent may still be on its way."""
        return time.monotonic() - self._trouble_at < _LATE_S

    def _forget(self) -> None:
        """Forget what MLflow holds, so that it is asked."""
        self._experiment_id = None
        self._runs.clear()

    @property
    def _client(self) -> MlflowClient:
        """The client, opened when it is first wanted, since that may fail."""
        if self._opened is None:
            self._opened = MlflowClient(self._uri)
        return self._opened

    def _discover(self, search: str, search_id: str) -> None:
        """Learn which runs there are already; a search is known by its id, since names come again."""
        found = self._client.get_experiment_by_name(search)
        experiment_id = found.experiment_id if found else create_experiment(self._client, self._uri, search)
        found_runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment_id], f"tags.`tuner.search_id` = '{search_id}'", max_results=1000, page_token=token
            )
            found_runs += page
            token = page.token
            if not token:
                break
        self._has_doubts = self._has_doubts or bool(found_runs)  # another process sent them, and may have been killed
        parents = {run.data.tags.get("mlflow.parentRunId") for run in found_runs}
        # of several for one trial or stage, the one that was used stays
        for run in sorted(found_runs, key=lambda run: (run.info.run_id not in parents, not run.data.metrics)):
            trial = run.data.tags.get("tuner.trial")
            key = (run.data.tags["tuner.stage"], None if trial is None else int(trial))
            if key in self._runs:
                self._client.delete_run(run.info.run_id)
                continue
            state = run.data.tags.get("tuner.state", "running")
            is_right = run.info.status == _find_status(state)
            self._runs[key] = _Run(run.info.run_id, None, state if is_right else "")
        self._experiment_id = experiment_id

    def _sync_stage(self, stage: StageLedger, attributes: Mapping[str, Any], settle: bool) -> None:
        parent = self._runs.get((stage.name, None)) or self._create_parent(stage, attributes)
        searched: list[str] | None = None
        for trial in stage.trials():
            run = self._runs.get((stage.name, trial.number))
            if run is not None and run.state == trial.state and _is_settled(trial, run, settle):
                continue
            if searched is None:
                searched = [p.name for p in stage.space.parameters if not p.is_constant]
            self._sync_trial(trial, run, parent, attributes, searched, settle)
        state = "complete" if attributes.get("ended") else "interrupted" if settle else "running"
        if parent.state != state:
            self._end_parent(stage, attributes, parent, state)

    def _create_parent(self, stage: StageLedger, attributes: Mapping[str, Any]) -> _Run:
        keys = ("search_id", "versions", "seed", "git_commit", "git_dirty", "index")
        tags = {f"tuner.{key}": _text(attributes[key]) for key in keys if attributes.get(key) is not None}
        tags |= {"tuner.stage": stage.name, "tuner.state": "running", "tuner.objective": attributes["metric"]}
        if FINAL in attributes:
            is_whole = attributes[FINAL].get("retrained")
            tags["tuner.final"] = "trained on the validation images too" if is_whole else "the best over several seeds"
        if attributes.get("git_commit"):
            tags["mlflow.source.git.commit"] = attributes["git_commit"]
        return self._create((stage.name, None), f"{stage.name} stage", tags, None)

    def _create(
        self, key: tuple[str, int | None], name: str, tags: dict[str, str], started: datetime.datetime | None
    ) -> _Run:
        assert self._experiment_id is not None, "runs are created after the experiment is known"
        tags["mlflow.runName"] = name
        created = self._client.create_run(self._experiment_id, start_time=_milliseconds(started), tags=tags)
        run = self._runs[key] = _Run(created.info.run_id, 0, "running")
        return run

    def _sync_trial(
        self,
        trial: TrialRecord,
        run: _Run | None,
        parent: _Run,
        attributes: Mapping[str, Any],
        searched: list[str],
        settle: bool,
    ) -> None:
        params: list[Param] = []
        is_new_here = run is None or not run.epochs  # a trial that goes on may have another device
        if run is None:
            architecture = str(trial.config.get("architecture", ""))
            again = {} if trial.again is None else {"tuner.again": str(trial.again)}
            tags = again | {
                "mlflow.parentRunId": parent.run_id,
                "tuner.search_id": attributes["search_id"],
                "tuner.stage": trial.stage,
                "tuner.trial": str(trial.number),
                "tuner.state": "running",
                "tuner.architecture": architecture,
                "tuner.seed": str(trial.seed),
            }
            run = self._create((trial.stage, trial.number), f"{trial.name} {architecture}", tags, trial.started)
            params = [Param(name, str(trial.config[name])) for name in searched if name in trial.config]
        elif run.epochs is None:
            run.epochs = self._epochs_held(run.run_id)
            held = self._client.get_run(run.run_id).data.params
            params = [Param(n, str(trial.config[n])) for n in searched if n in trial.config and n not in held]
        assert run.epochs is not None, "asked above"
        state = "interrupted" if settle and trial.state in _OPEN else trial.state
        tags_now = []
        if is_new_here:
            tags_now = [RunTag(f"tuner.execution.{name}", str(value)) for name, value in trial.execution.items()]
        if state != run.state:
            tags_now += [RunTag("tuner.state", state), RunTag("tuner.reason", trial.reason or state)]
            tags_now += [RunTag("tuner.error", trial.error[-5000:])] if trial.error else []
            tags_now += [RunTag("tuner.diagnosis", trial.diagnosis["kind"])] if trial.diagnosis else []
        *earlier, batch = list(_batches(trial, run.epochs, str(attributes["metric"]))) or [[]]
        for metrics in earlier:
            self._client.log_batch(run.run_id, metrics)
        if batch or params or tags_now:
            self._client.log_batch(run.run_id, batch, params, tags_now)
        run.epochs = len(trial.epochs)
        if state != run.state:
            self._set_status(run, state, trial.ended)

    def _epochs_held(self, run_id: str) -> int:
        """Count the epochs whose every metric is there; a batch is one transaction, so none is there by half."""
        metrics = self._client.get_run(run_id).data.metrics
        steps = [point.step for key in metrics for point in self._client.get_metric_history(run_id, key)]
        return max(steps, default=0)

    def _set_status(self, run: _Run, state: str, ended: datetime.datetime | None) -> None:
        status = _find_status(state)
        if status == "RUNNING":
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status, end_time=_milliseconds(ended))
        run.state = state

    def _end_parent(self, stage: StageLedger, attributes: Mapping[str, Any], parent: _Run, state: str) -> None:
        artifacts = self._folder / "artifacts" / stage.name
        if artifacts.is_dir():
            self._client.log_artifacts(parent.run_id, str(artifacts))
        metrics = []
        if state == "complete":
            trials = stage.trials()
            self._tag_front(stage, trials, parent)
            now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
            values: dict[str, float] = {"trials": len(trials), "epochs": sum(len(trial.epochs) for trial in trials)}
            values |= {f"{end}_trials": sum(trial.state == end for trial in trials) for end in ("complete", "stopped")}
            best = rank_trials(trials, maximize=stage.maximize)
            values |= {f"best_{attributes['metric']}": best[0].value} if best else {}
            values |= _measure_audit(attributes.get("audit"))
            metrics = [Metric(key, value, now, 0) for key, value in values.items()]
        tags = [RunTag("tuner.state", state), RunTag("tuner.reason", attributes.get("ended") or state)]
        self._client.log_batch(parent.run_id, metrics, tags=tags)
        self._set_status(parent, state, None)

    def _sync_outcomes(self, stages: Sequence[tuple[StageLedger, Mapping[str, Any]]]) -> None:
        """Send what the test set said; the champion is the model for which it was opened last."""
        opened = [
            (stage, attributes, openings)
            for stage, attributes in stages
            if (openings := [one for one in attributes.get("openings", []) if "outcome" in one])
        ]
        latest = max((openings[-1]["number"] for _, _, openings in opened), default=0)
        for stage, attributes, openings in opened:
            if self._outcomes_sent.get(stage.name, 0) != len(openings):
                self._send_outcome(stage, attributes, openings[-1], is_latest=openings[-1]["number"] == latest)
                self._outcomes_sent[stage.name] = len(openings)

    def _send_outcome(
        self, stage: StageLedger, attributes: Mapping[str, Any], opening: Mapping[str, Any], *, is_latest: bool
    ) -> None:
        """Send what the test set said, and register the model, the latest as the champion; twice is as good as once."""
        parent = self._runs[stage.name, None]
        outcome, folder = opening["outcome"], self._folder / "artifacts" / stage.name
        test, model = outcome["test"], outcome["model"]
        self._client.log_artifacts(parent.run_id, str(folder))
        names = ("accuracy", "top5_accuracy", "superclass_accuracy", "loss", "calibration_error")
        now = int(datetime.datetime.fromisoformat(opening["time"]).timestamp() * 1000)
        metrics = [Metric(f"test_{name}", test[name], now, 0) for name in names if test[name] is not None]
        tags = {
            "tuner.test_opened": f"{opening['time']}, opening {opening['number']} of this search",
            "tuner.winner": outcome["winner"],
            "tuner.warnings": "; ".join(outcome["warnings"]) or "none",
        }
        held = self._client.get_run(parent.run_id).data.tags.get("tuner.test_opened")
        if held != tags["tuner.test_opened"]:
            self._client.log_batch(parent.run_id, metrics, tags=[RunTag(key, value) for key, value in tags.items()])
        about = {
            "tuner.search_id": attributes["search_id"],
            "tuner.trial": model["trial"],
            "tuner.sha256": model["sha256"],
            "tuner.data": outcome["data"]["train"],
        }
        about |= {f"config.{name}": str(value) for name, value in model["config"].items()}
        card = (folder / CARD).read_text()
        register(self._client, stage.search, parent.run_id, "mlflow_model", about, card, is_champion=is_latest)

    def _tag_front(self, stage: StageLedger, trials: list[TrialRecord], parent: _Run) -> None:
        """Tag the trials on the Pareto front, and no longer those that left it since a limit ended the stage before."""
        if not stage.objective.also:
            return
        front = {self._runs[stage.name, number].run_id for number in find_front(trials, stage.objective)}
        mine = f"tags.`mlflow.parentRunId` = '{parent.run_id}' and tags.`tuner.pareto` = 'true'"
        tagged = {
            run.info.run_id for run in self._client.search_runs([str(self._experiment_id)], mine, max_results=9999)
        }
        for run_id in sorted(front - tagged):
            self._client.set_tag(run_id, "tuner.pareto", "true")
        for run_id in sorted(tagged - front):
            self._client.delete_tag(run_id, "tuner.pareto")


def create_experiment(client: MlflowClient, tracking_uri: str, search: str) -> str:
    """Make a search's experiment; if the store is a file, artifacts lie beside it and not wherever one happens to be.

    Parameters
    ----------
    client : MlflowClient
        Of the store.
    tracking_uri : str
        Its address.
    search : str
        The search's name.

    Returns
    -------
    str
        The experiment's id.
    """
    location = None
    if tracking_uri.startswith("sqlite:///"):
        location = Path(tracking_uri.removeprefix("sqlite:///")).absolute().with_name("mlartifacts").as_uri()
    tags = {"mlflow.experimentKind": "custom_model_development"}  # shown as training, not as talk with models
    return str(client.create_experiment(search, artifact_location=location, tags=tags))


def find_comparison(tracking_uri: str, search: str, num_trials: int = 8) -> str:
    """Find the page of MLflow that compares the best trials of a search's last stage.

    Parameters
    ----------
    tracking_uri : str
        MLflow's store or server.
    search : str
        The search's name.
    num_trials : int
        How many trials to compare.

    Returns
    -------
    str
        What follows the server's address and a slash.

    Raises
    ------
    SearchNotFoundError
        If MLflow has no trial of that search.
    """
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(search)
    only_stages = "tags.`tuner.objective` != ''"
    parents = client.search_runs([experiment.experiment_id], only_stages) if experiment else []
    parents = [run for run in parents if "tuner.final" not in run.data.tags]
    if experiment is None or not parents:
        raise SearchNotFoundError(
            f"MLflow at {hide_password(tracking_uri)} has no search {search!r}; send it with: tuner sync {search}"
        )
    latest = max(parents, key=lambda run: (run.info.start_time, int(run.data.tags.get("tuner.index", 0))))
    objective = latest.data.tags["tuner.objective"]
    trials = client.search_runs(
        [experiment.experiment_id],
        f"tags.`mlflow.parentRunId` = '{latest.info.run_id}'",
        order_by=[f"metrics.`best_{objective}` {'ASC' if objective.endswith('loss') else 'DESC'}"],
        max_results=num_trials,
    )
    runs = quote(json.dumps([run.info.run_id for run in trials]))
    return f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([experiment.experiment_id]))}"


def reach(tracking_uri: str) -> None:
    """Ask MLflow for what every search asks first.

    Parameters
    ----------
    tracking_uri : str
        MLflow's store or server.

    Raises
    ------
    TrackingError
        If it does not answer; the message says what to do.
    """
    try:
        MlflowClient(tracking_uri).search_experiments(max_results=1)
    except Exception as error:  # a store is SQL, HTTP or a plugin, each with errors of its own
        status = error.get_http_status_code() if isinstance(error, MlflowException) else 0  # type: ignore[no-untyped-call]
        said = re.split(r"[\n(]", hide_password(str(error)), maxsplit=1)[0].strip()
        raise TrackingError(
            f"MLflow at {hide_password(tracking_uri)} does not answer as it should: {said[:200]}; "
            f"{next((text for code, text in _REMEDIES.items() if status == code or str(code) in said), _ELSE)}"
        ) from error


def _batches(trial: TrialRecord, epochs_held: int, objective: str) -> Iterator[list[Metric]]:
    """Make batches of whole epochs: the epochs that MLflow holds are counted, so none may be there by half."""
    batch: list[Metric] = []
    for epoch, measured in enumerate(trial.epochs[epochs_held:], start=epochs_held + 1):
        at = int(measured.get("timestamp", 0) * 1000) or _milliseconds(trial.started) or 0
        values = {k: v for k, v in measured.items() if k not in {"epoch", "timestamp"}}
        if epoch <= len(trial.values):
            values[f"best_{objective}"] = trial.values[epoch - 1]
        metrics = [Metric(k, float(value), at, epoch) for k, value in values.items() if not math.isinf(value)]
        if len(batch) + len(metrics) > _BATCH:
            yield batch
            batch = []
        batch += metrics
    if batch:
        yield batch


def _is_settled(trial: TrialRecord, run: _Run, settle: bool) -> bool:
    """Tell whether a trial's run, of the same state, needs nothing; one that waits may have trained in between."""
    if trial.state == "paused":
        return not settle and run.epochs == len(trial.epochs)
    return trial.state != "running"


def _find_status(state: str) -> str:
    return "KILLED" if state == "interrupted" else _STATUS[state]


def _measure_audit(audit: Mapping[str, Any] | None) -> dict[str, float]:
    """Name what is known of the cost of stopping trials, as metrics of the stage."""
    if audit is None:
        return {}
    values = {f"audit_{name}": audit[name] for name in ("num_audited", "false_stops", "low", "high")}
    values |= {f"audit_rank_correlation_epoch_{worth['rung']}": worth["correlation"] for worth in audit["rungs"]}
    values["audit_saved_epochs"] = audit["epochs_unstopped"] - audit["epochs"]
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _milliseconds(at: datetime.datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


def _text(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
