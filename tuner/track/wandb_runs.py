"""Weights & Biases as an image of the ledger: a run a trial, those of a search in one group."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from tuner.errors import TrackingError
from tuner.track.lease import write_whole
from tuner.track.ledger import Ledger, StageLedger, TrialRecord

FOLDER, SENT = "wandb", "wandb/sent.json"  # in a search's folder: W&B's own files, and how far each trial is
_OPEN = {"running", "paused"}
_ENDED = -1
_LONGEST_ID = 64


class WandbRuns:
    """Keeps the runs of one search in Weights & Biases like its ledger.

    Where they go, and whether they are sent at all, is W&B's to read from the environment: ``WANDB_API_KEY``,
    ``WANDB_ENTITY``, ``WANDB_BASE_URL``, and ``WANDB_MODE=offline``, which keeps them in the search's folder for
    ``wandb sync``. A run's name in W&B is made from the search and the trial, so that whoever goes on finds it, and how
    far each is stands in a file; a step that was sent and not noted is one that W&B leaves out the second time.

    Parameters
    ----------
    ledger : Ledger
        The search's record.
    folder : Path
        The search's folder.
    project : str
        W&B's project.
    """

    name = "Weights & Biases"
    is_doubtful = False  # finishing a run waits for what it sends

    def __init__(self, ledger: Ledger, folder: Path, project: str) -> None:
        self._ledger = ledger
        self._folder = folder
        self._project = project
        self._runs: dict[str, Any] = {}
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        sent = folder / SENT
        self._sent: dict[str, int] = json.loads(sent.read_text()) if sent.exists() else {}

    def sync(self, *, settle: bool = False) -> None:
        """Send what the runs lack.

        Parameters
        ----------
        settle : bool
            Whether nobody trains any more: then runs of trials that wait to be gone on with are closed too.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        TrackingError
            If W&B takes nothing; the rest waits for the next pass.
        """
        before = dict(self._sent)
        try:
            for stage in self._ledger.everything():
                for trial in stage.trials():
                    self._sync_trial(stage, trial, settle=settle)
        except (wandb.Error, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrackingError(
                f"Weights & Biases takes nothing ({reason}); set WANDB_API_KEY, or WANDB_MODE=offline and send the "
                f"runs later with: wandb sync {self._folder / FOLDER}/offline-run-*"
            ) from error
        finally:
            if self._sent != before:
                write_whole(self._folder / SENT, json.dumps(self._sent) + "\n")

    def _sync_trial(self, stage: StageLedger, trial: TrialRecord, *, settle: bool) -> None:
        is_open = trial.state in _OPEN
        sent = self._sent.get(trial.name, 0)
        if sent == _ENDED or (is_open and len(trial.epochs) == sent and trial.name not in self._runs):
            return
        run = self._runs.get(trial.name) or self._open(stage, trial)
        self._runs[trial.name] = run
        for epoch, measured in enumerate(trial.epochs[sent:], start=sent + 1):
            run.log(_read_values(measured), step=epoch)
            self._sent[trial.name] = epoch
        if not is_open:
            finite = [value for value in trial.values if math.isfinite(value)]
            best = (max if stage.maximize else min)(finite, default=math.nan)
            run.summary.update(
                {"state": trial.state, "reason": trial.reason, f"best_{stage.attributes['metric']}": best}
            )
        if not is_open or settle:
            run.finish(exit_code=1 if trial.state == "failed" else 0)
            del self._runs[trial.name]
        if not is_open:
            self._sent[trial.name] = _ENDED

    def _open(self, stage: StageLedger, trial: TrialRecord) -> Any:
        attributes = stage.attributes
        own_id = f"{attributes['search_id'][:16]}-{re.sub(r'[^A-Za-z0-9_-]', '-', trial.name)}"
        return wandb.init(
            project=self._project,
            group=stage.search,
            job_type=stage.name,
            name=f"{stage.search} {trial.name}",
            id=own_id[-_LONGEST_ID:],
            config={**trial.config, "seed": trial.seed},
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True,
                disable_code=True, x_save_requirements=False,
                init_timeout=30,
            ),
        )  # fmt: skip


def _read_values(measured: Mapping[str, float]) -> dict[str, float]:
    """Return what is drawn of an epoch."""
    return {key: value for key, value in measured.items() if key not in {"epoch", "timestamp"}}
