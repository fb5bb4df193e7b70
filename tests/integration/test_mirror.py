"""MLflow as an image of the ledger, on a real store."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import TUNER, clean_environment
from mlflow import MlflowClient
from mlflow.entities import Metric
from postgres_server import Server

from tuner.errors import TrackingError
from tuner.spec import load_text
from tuner.track import mirror as mirror_module
from tuner.track.ledger import Ledger, StageLedger
from tuner.track.mirror import Mirror, find_comparison
from tuner.track.mirror_main import mirror_until_told
from tuner.track.registry import ALIAS, register

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # MLflow's own

SPEC = """\
name: one
data: digits
space: {architecture: {choice: {lenet: {}, simple_cnn: {depth: 2}}}, learning_rate: {loguniform: [1e-3, 0.3]}}
stages: {only: {trials: 3, max_epochs: 3, halving: none}}
"""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow's with nothing in it, which takes seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def stage(tmp_path: Path, empty_store: Path) -> StageLedger:
    """A stage with one complete and one running trial."""
    shutil.copy(empty_store, tmp_path)
    (tmp_path / "one").mkdir()
    ledger = Ledger.open(tmp_path / "one", create=True)
    attributes = {"spec": SPEC, "asked": SPEC, "metric": "val_accuracy", "narrowing": [], "search_id": "a", "seed": 3}
    stage = ledger.begin_stage("only", maximize=True, **attributes)
    for number, architecture in enumerate(["lenet", "simple_cnn"]):
        stage.start(load_text(SPEC).space, {"architecture": architecture, "learning_rate": 0.1}, seed=number)
        record(stage, number, 1)
    stage.record_execution(0, {"precision": "float32", "compile": False})
    record(stage, 0, 2)
    stage.end(0, "complete", "reached the last epoch", 0.2)
    return stage


def record(stage: StageLedger, number: int, epoch: int) -> None:
    """One epoch."""
    stage.record_epoch(
        number, epoch, {"epoch": epoch, "val_accuracy": epoch / 10, "timestamp": 1e9 + epoch}, epoch / 10
    )


class Spied(MlflowClient):
    """A real client that remembers what it sent."""

    sent: Counter[tuple[str, int]]
    batches: Counter[str]

    def log_batch(self, run_id: str, metrics: Sequence[Metric] = (), *args: object, **more: object) -> None:
        """Remember the points and whose they are, then send them."""
        self.sent.update((metric.key, metric.step) for metric in metrics)
        self.batches[run_id] += 1
        super().log_batch(run_id, metrics, *args, **more)


def open_mirror(tmp_path: Path) -> tuple[Mirror, Spied]:
    """A mirror that knows nothing yet, as after a restart."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirror = Mirror(Ledger.open(tmp_path / "one"), tmp_path / "one", uri)
    client = mirror._opened = Spied(uri)
    client.sent, client.batches = Counter(), Counter()
    return mirror, client


def test_a_pass_sends_what_is_there_and_the_next_one_nothing(stage: StageLedger, tmp_path: Path) -> None:
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    assert client.sent == Counter(
        {("val_accuracy", 1): 2, ("best_val_accuracy", 1): 2} | {("val_accuracy", 2): 1, ("best_val_accuracy", 2): 1}
    )
    assert list(client.batches.values()) == [1, 1], "one for each trial, params and tags included"
    trials = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` != ''")
    assert all(run.data.params["learning_rate"] == "0.1" for run in trials)
    assert sorted(run.data.tags["tuner.state"] for run in trials) == ["complete", "running"]
    client.sent.clear()
    client.batches.clear()
    mirror.sync()
    assert not client.sent and not client.batches


def test_a_mirror_that_starts_again_sends_only_what_is_missing(stage: StageLedger, tmp_path: Path) -> None:
    open_mirror(tmp_path)[0].sync(settle=True)
    record(stage, 1, 2)
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    assert client.sent == {("val_accuracy", 2): 1, ("best_val_accuracy", 2): 1}
    runs = client.search_runs([client.get_experiment_by_name("one").experiment_id])
    assert len(runs) == 3


def test_a_batch_that_does_not_arrive_leaves_no_epoch_by_half(
    stage: StageLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in range(2, 8):
        stage.record_epoch(1, epoch, {"epoch": epoch} | {f"metric {i}": i for i in range(40)}, 0.5)
    monkeypatch.setattr(mirror_module, "_BATCH", 100)  # of 41 an epoch: the fourth epoch would be cut in two
    mirror, client = open_mirror(tmp_path)
    send = client.log_batch

    def log_batch(run_id: str, metrics: Sequence[Metric] = (), *args: object, **more: object) -> None:
        if any(metric.step == 5 for metric in metrics):
            raise ConnectionError("cut")
        send(run_id, metrics, *args, **more)

    client.log_batch = log_batch  # type: ignore[method-assign]
    with pytest.raises(TrackingError, match="cut"):
        mirror.sync()
    again, client = open_mirror(tmp_path)
    again.sync()
    run = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` = '1'")[0]
    for i in range(40):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, f"metric {i}")]
        assert sorted(steps) == [2, 3, 4, 5, 6, 7]


def test_a_trial_nobody_trains_any_more_is_settled_and_runs_again_when_it_goes_on(
    stage: StageLedger, tmp_path: Path
) -> None:
    def statuses(client: MlflowClient) -> dict[str, str]:
        runs = client.search_runs([client.get_experiment_by_name("one").experiment_id])
        return {run.data.tags.get("tuner.trial", "stage"): run.info.status for run in runs}

    mirror, client = open_mirror(tmp_path)
    mirror.sync(settle=True)
    assert statuses(client) == {"stage": "KILLED", "0": "FINISHED", "1": "KILLED"}
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    assert statuses(client) == {"stage": "RUNNING", "0": "FINISHED", "1": "RUNNING"}
    stage.end(1, "stopped", "worse than its peers", 0.1)
    stage.set(ended="complete")
    mirror.sync()
    assert statuses(client) == {"stage": "FINISHED", "0": "FINISHED", "1": "FINISHED"}


def test_a_run_whose_last_word_was_cut_off_is_settled_by_the_next_mirror(stage: StageLedger, tmp_path: Path) -> None:
    mirror, client = open_mirror(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise ConnectionError("killed")

    client.set_terminated = die  # type: ignore[method-assign] # after the tag that says complete was set
    with pytest.raises(TrackingError):
        mirror.sync()
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    run = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` = '0'")[0]
    assert run.info.status == "FINISHED"


def test_a_trial_that_went_on_between_two_passes_and_waits_again_has_its_epochs(
    stage: StageLedger, tmp_path: Path
) -> None:
    stage.pause(1, 1, "waits")
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    record(stage, 1, 2)
    stage.pause(1, 2, "waits again")
    client.sent.clear()
    mirror.sync()
    assert client.sent == {("val_accuracy", 2): 1, ("best_val_accuracy", 2): 1}
    client.batches.clear()
    mirror.sync()
    assert not client.batches


def test_the_champion_is_the_model_for_which_the_test_set_was_opened_last(stage: StageLedger, tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "one")
    stages = {}
    for name in ("final-1", "final-2"):
        attributes = {"spec": SPEC, "metric": "val_accuracy", "search_id": "a", "final": {}}
        stages[name] = ledger.begin_stage(name, maximize=True, **attributes)
        folder = tmp_path / "one" / "artifacts" / name
        folder.mkdir(parents=True)
        (folder / "model_card.md").write_text("A model.")

    def open_test(number: int, name: str) -> None:
        scores = ("accuracy", "top5_accuracy", "superclass_accuracy", "loss", "calibration_error")
        model = {"trial": f"{name}-0", "sha256": name, "config": {}}
        outcome = {
            "test": dict.fromkeys(scores, 0.5),
            "model": model,
            "winner": "only-0",
            "warnings": [],
            "data": {"train": "hash"},
        }
        opening = {"time": "2026-01-01T00:00:00+00:00", "number": number, "outcome": outcome}
        stages[name].set(openings=[*stages[name].attributes.get("openings", []), opening])

    def find_champion(mirror: Mirror, client: MlflowClient) -> str:
        mirror.sync()
        return str(client.get_model_version_by_alias("one", "champion").tags["tuner.trial"])

    held = open_mirror(tmp_path)
    for number, name in enumerate(["final-1", "final-2", "final-1"], start=1):
        open_test(number, name)
        assert find_champion(*held) == f"{name}-0"
        assert find_champion(*open_mirror(tmp_path)) == f"{name}-0"


def test_a_card_of_a_thousand_classes_is_cut_to_what_mlflows_tables_hold(postgres: Server) -> None:
    client = MlflowClient(f"{postgres.address.replace('://', '+psycopg://')}?client_encoding=utf8")
    run_id = client.create_run(client.create_experiment("large")).info.run_id
    card = "# large\n" + ", ".join(f"n{number:08d}" for number in range(1000))
    register(client, "large", run_id, "mlflow_model", {"tuner.trial": "final-1-0"}, card, is_champion=True)
    told = client.get_model_version_by_alias("large", ALIAS).description
    assert told.startswith(card[:4900])
    assert told.endswith("All of it is among the artifacts of the run.\n")


def test_what_a_server_does_after_it_was_given_up_leaves_nothing_twice(stage: StageLedger, tmp_path: Path) -> None:
    """A server that stood still: every other call is given up, and done once the client has gone on."""
    mirror, client = open_mirror(tmp_path)
    late: list[Callable[[], object]] = []
    calls: Counter[str] = Counter()

    def hold_up(name: str) -> None:
        call = getattr(client, name)

        def give_up(*arguments: object, **more: object) -> object:
            calls[name] += 1
            if calls[name] % 2 == 0:
                return call(*arguments, **more)
            late.append(lambda: call(*arguments, **more))
            raise TimeoutError("no answer in 10 s")

        setattr(client, name, give_up)

    for name in ("create_run", "log_batch", "set_terminated"):
        hold_up(name)
    num_given_up = 0
    while num_given_up == len(late):
        try:
            mirror.sync()
        except TrackingError:
            num_given_up += 1
        else:
            break
    assert set(calls) == {"create_run", "log_batch", "set_terminated"}
    for name in calls:
        delattr(client, name)  # it is well again
    for call in late:
        call()
    mirror.sync(settle=True)
    runs = client.search_runs([client.get_experiment_by_name("one").experiment_id])
    assert Counter(run.data.tags.get("tuner.trial") for run in runs) == {None: 1, "0": 1, "1": 1}
    parent = next(run.info.run_id for run in runs if "tuner.trial" not in run.data.tags)
    for run in runs:
        if run.info.run_id != parent:
            assert run.data.tags["mlflow.parentRunId"] == parent
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy")]
            assert sorted(steps) == list(range(1, len(steps) + 1)) != []


def test_searched_hyperparameters_are_params_and_the_rest_is_tags(stage: StageLedger, tmp_path: Path) -> None:
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    run = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` = '0'")[0]
    assert run.data.params == {"architecture": "lenet", "learning_rate": "0.1"}
    tags = {key: run.data.tags[f"tuner.{key}"] for key in ("architecture", "stage", "state", "reason", "seed")}
    assert tags == {
        "architecture": "lenet",
        "stage": "only",
        "state": "complete",
        "reason": "reached the last epoch",
        "seed": "0",
    }
    execution = {key: value for key, value in run.data.tags.items() if key.startswith("tuner.execution.")}
    assert execution == {"tuner.execution.precision": "float32", "tuner.execution.compile": "False"}


def test_the_page_that_compares_names_the_best_first(stage: StageLedger, tmp_path: Path) -> None:
    mirror, client = open_mirror(tmp_path)
    mirror.sync()
    best = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` = '0'")[0]
    page = find_comparison(f"sqlite:///{tmp_path / 'mlflow.db'}", "one")
    assert page.startswith(f"#/compare-runs?runs=%5B%22{best.info.run_id}")


def test_a_store_that_cannot_be_reached_is_a_tracking_error(
    stage: StageLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mirror = Mirror(Ledger.open(tmp_path / "one"), tmp_path / "one", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        mirror.sync()


def test_a_server_that_is_away_when_the_training_ends_is_not_waited_for(
    stage: StageLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    source, sink = os.pipe()
    ended: list[float] = []

    def end_once_it_was_missed() -> None:
        while "the search goes on" not in capsys.readouterr().out:
            time.sleep(0.05)
        ended.append(time.monotonic())
        os.close(sink)

    training = threading.Thread(target=end_once_it_was_missed)
    training.start()
    with os.fdopen(source) as told:
        assert not mirror_until_told(tmp_path / "one", "http://127.0.0.1:9", told)
    took_s = time.monotonic() - ended[0]
    training.join()
    assert took_s < 8, "one more try, not fifteen seconds of them"
    assert "has not got everything" in capsys.readouterr().out


def test_the_ui_serves_the_store_on_loopback_takes_more_and_leaves_nothing_behind(
    stage: StageLedger, tmp_path: Path, cache: Path
) -> None:
    open_mirror(tmp_path)[0].sync(settle=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ui = subprocess.Popen(
        [TUNER, "ui", "one", "--results", ".", "--port", str(port)],
        cwd=tmp_path,
        env=clean_environment(cache),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert ui.stdout is not None
        address = f"http://127.0.0.1:{port}"
        assert address in ui.stdout.readline()
        assert f"{address}/#/compare-runs" in ui.stdout.readline()
        record(stage, 1, 2)
        Mirror(Ledger.open(tmp_path / "one"), tmp_path / "one", address).sync(settle=True)
    finally:
        ui.terminate()
        ui.communicate(timeout=30)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server is gone"
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.search_runs([client.get_experiment_by_name("one").experiment_id], "tags.`tuner.trial` = '1'")[0]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy")] == [1, 2]


def test_the_trials_on_the_pareto_front_are_tagged_when_the_stage_has_ended(stage: StageLedger, tmp_path: Path) -> None:
    stage.set(spec=SPEC + "objective: [val_accuracy, parameters]\n")
    for number, (accuracy, parameters) in {1: (0.4, 90), 2: (0.3, 50), 3: (0.35, 99)}.items():
        if number > 1:
            stage.start(load_text(SPEC).space, {"architecture": "lenet", "learning_rate": 0.2}, seed=number)
        measured = {"epoch": 2, "val_accuracy": accuracy, "parameters": parameters}
        for epoch in range(2 if number == 1 else 1, 3):
            stage.record_epoch(number, epoch, measured, accuracy)

    def find_tagged() -> list[str]:
        mirror, client = open_mirror(tmp_path)
        mirror.sync()
        experiment = client.get_experiment_by_name("one").experiment_id
        runs = client.search_runs([experiment], "tags.`tuner.pareto` = 'true'")
        return sorted(run.data.tags["tuner.trial"] for run in runs)

    assert find_tagged() == []
    stage.set(ended="the time limit was reached")
    assert find_tagged() == ["1", "2"]
    stage.set(ended=None)
    stage.record_epoch(3, 3, {"epoch": 3, "val_accuracy": 0.5, "parameters": 90}, 0.5)
    assert find_tagged() == ["1", "2"]
    stage.set(ended="complete")
    assert find_tagged() == ["2", "3"]
