"""TensorBoard as an image of the ledger: a folder a trial, with its scalars and what the page HParams compares."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from tuner.errors import TrackingError
from tuner.spec.space import Choice, Space
from tuner.track.event_file import (
    EventFile,
    is_session_end,
    make_experiment,
    make_scalars,
    make_session_end,
    make_session_start,
    write_choice,
)
from tuner.track.ledger import TENSORBOARD, Ledger, StageLedger, TrialRecord

SCALARS = "events.out.tfevents.0.ledger"  # in a trial's; what its worker writes has another name
_OPEN = {"running", "paused"}


class Board:
    """Keeps TensorBoard's files of one search like its ledger.

    The file of a trial says by its last event how far it is, so whoever goes on adds what is missing, and no step comes
    twice.

    Parameters
    ----------
    ledger : Ledger
        The search's record.
    folder : Path
        The search's folder.
    """

    name = "TensorBoard's folder"
    is_doubtful = False  # what was written is there

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder / TENSORBOARD
        self._files: dict[str, EventFile | None] = {}  # None for a trial that has ended
        self._is_described = False

    def sync(self, *, settle: bool = False) -> None:
        """Write what the files lack.

        Parameters
        ----------
        settle : bool
            Whether nobody trains any more; it makes no difference here.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        TrackingError
            If the files cannot be written; the rest waits for the next pass.
        """
        try:
            for stage in self._ledger.everything():
                self._sync_stage(stage)
        except OSError as error:
            raise TrackingError(f"{self._folder}: cannot be written ({error.strerror}); free space there") from error

    def _sync_stage(self, stage: StageLedger) -> None:
        trials = [trial for trial in stage.trials() if self._files.get(trial.name, False) is not None]
        if not trials:
            return
        metric = str(stage.attributes["metric"])
        if not self._is_described:
            self._describe(stage.space, metric)
            self._is_described = True
        for trial in trials:
            self._sync_trial(trial, metric)

    def _describe(self, space: Space, metric: str) -> None:
        """Say what is compared: what varies in the first stage, since TensorBoard keeps the first word.

        No later stage varies more; what it has fixed still has its value in each trial.
        """
        file = EventFile(self._folder / SCALARS)
        if file.last is None:
            varied = [parameter for parameter in space.parameters if not parameter.is_constant]
            choices = {
                parameter.name: [write_choice(option) for option in parameter.distribution.options]
                for parameter in varied
                if isinstance(parameter.distribution, Choice)
                and any(isinstance(option, str | bool) for option in parameter.distribution.options)
            }
            numbers = [parameter.name for parameter in varied if parameter.name not in choices]
            metrics = [f"best_{metric}", "val_accuracy", "val_loss", "train_loss", "seconds", "parameters"]
            file.add(make_experiment(numbers, {"stage": (), **choices}, metrics))

    def _sync_trial(self, trial: TrialRecord, metric: str) -> None:
        file = self._files.get(trial.name)
        if file is None:
            file = self._files[trial.name] = EventFile(self._folder / trial.name / SCALARS)
        last = file.last
        if last is not None and is_session_end(last):
            self._files[trial.name] = None
            return
        events = []
        if last is None:
            hyperparameters = {"stage": trial.stage, **trial.config}  # those that are compared are among them
            events.append(make_session_start(trial.name, hyperparameters, _seconds(trial.started)))
        held = 0 if last is None else last.step
        for epoch, measured in enumerate(trial.epochs[held:], start=held + 1):
            time_s = measured.get("timestamp", _seconds(trial.started))
            events.append(make_scalars(_read_values(trial, epoch, metric), epoch, time_s))
        if trial.state not in _OPEN:
            is_success = trial.state in {"complete", "stopped"}
            events.append(make_session_end(is_success=is_success, time_s=_seconds(trial.ended)))
        if events:
            file.add(*events)
        if trial.state not in _OPEN:
            self._files[trial.name] = None


def _read_values(trial: TrialRecord, epoch: int, metric: str) -> Mapping[str, float]:
    """Return what is drawn of an epoch."""
    measured = {key: value for key, value in trial.epochs[epoch - 1].items() if key not in {"epoch", "timestamp"}}
    return measured | ({f"best_{metric}": trial.values[epoch - 1]} if epoch <= len(trial.values) else {})


def _seconds(at: datetime.datetime | None) -> float:
    return 0.0 if at is None else at.timestamp()
