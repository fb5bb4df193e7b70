"""The ledger: the one true record of a search, from which everything else can be made again.

One Optuna study holds one stage. A trial's intermediate values are its best objective so far at each epoch; its user
attributes hold all that was measured at each epoch, why it ended, and what it was trained with. Stopped trials are
PRUNED, diverged and failed ones FAIL, so that any tool that reads Optuna studies sees what happened.
"""

import contextlib
import datetime
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import LedgerError, SearchNotFoundError
from tuner.spec import load_text
from tuner.spec.search import Objective
from tuner.spec.space import Choice, Config, Distribution, LogInt, LogUniform, Scalar, Space, Uniform
from tuner.track.lease import Lease
from tuner.track.store import find_store, list_searches

Batch: TypeAlias = Callable[[], contextlib.AbstractContextManager[None]]
State = Literal["running", "paused", "complete", "stopped", "diverged", "failed"]
End = Literal["complete", "stopped", "diverged", "failed"]

TENSORBOARD = "tensorboard"  # in a search's folder: TensorBoard's image of the record
FINAL = "final"  # the attribute of what was trained after the search: who contends, and over how many seeds
_EPOCH = "epoch:"
_OPTUNA_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as far as the ledger knows it.

    Attributes
    ----------
    stage : str
        Its stage's name.
    number : int, at least 0
        Its place in its stage.
    config : mapping
        The point of the space that it trains, constants included.
    seed : int
        What its weights, its order of images and its dropout are drawn from.
    state : str
        running, paused, complete, stopped, diverged or failed.
    reason : str
        Why it ended, or waits; empty while it runs.
    epochs : tuple of mappings
        What was measured at epoch 1, 2, ...
    values : tuple of float
        The objective, best so far, at epoch 1, 2, ...; NaN where the loss was not finite.
    started, ended : datetime or None
        In UTC.
    error : str
        The traceback of a failed trial.
    execution : mapping
        How its device was used: precision and the like, and on which host; empty before its first epoch.
    again : int or None
        The failed trial whose configuration and seed it has, to try them again.
    diagnosis : mapping
        What its curves looked like when it ended: ``kind`` and, for people, ``text``; empty where that is not known.
    """

    stage: str
    number: int
    config: Config
    seed: int
    state: State
    reason: str
    epochs: tuple[Mapping[str, float], ...]
    values: tuple[float, ...]
    started: datetime.datetime | None
    ended: datetime.datetime | None
    error: str = ""
    execution: Mapping[str, Scalar] = field(default_factory=dict)
    diagnosis: Mapping[str, str] = field(default_factory=dict)
    again: int | None = None

    @property
    def value(self) -> float:
        """The objective at the best epoch so far; NaN before the first finite one."""
        finite = [value for value in self.values if math.isfinite(value)]
        return finite[-1] if finite else math.nan

    @property
    def best_epoch(self) -> int:
        """The epoch that ``value`` is from, 1-based; 0 before the first."""
        value = self.value
        return self.values.index(value) + 1 if math.isfinite(value) else 0

    @property
    def name(self) -> str:
        """Stage and number, as people and folders write it."""
        return f"{self.stage}-{self.number}"


class StageLedger:
    """One stage's part of the ledger."""

    def __init__(self, storage: BaseStorage, study_id: int, study_name: str, batch: Batch) -> None:
        self.search, _, self.name = study_name.rpartition("/")
        self._batch = batch
        self._storage = storage
        self._study_id = study_id
        self._trial_ids: dict[int, int] = {}

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Write at the block's end, at once and whole or not at all, what is recorded in it.

        Raises
        ------
        LedgerError
            If it cannot be written.
        """
        with _translated(), self._batch():
            yield

    @property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of the stage as a whole."""
        return dict(self._storage.get_study_user_attrs(self._study_id))

    @property
    def space(self) -> Space:
        """The stage's own space."""
        space = load_text(self.attributes["spec"], f"the ledger's stage {self.name}").space
        assert isinstance(space, Space), "a stage is recorded with its own space"
        return space

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        return load_text(self.attributes["spec"], f"the ledger's stage {self.name}").objective

    @property
    def maximize(self) -> bool:
        """Whether a larger objective is better."""
        return bool(self._storage.get_study_directions(self._study_id)[0] == StudyDirection.MAXIMIZE)

    def set(self, **attributes: Any) -> None:
        """Record something of the stage as a whole."""
        with self.batch():
            for key, value in attributes.items():
                self._storage.set_study_user_attr(self._study_id, key, value)

    def start(self, space: Space, config: Config, seed: int, again: int | None = None) -> int:
        """Open a trial; ``again`` is the failed one that it tries again.

        Returns
        -------
        int
            Its number.
        """
        searched = [p for p in space.parameters if p.name in config and not p.is_constant]
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={p.name: config[p.name] for p in searched},
            distributions={p.name: _as_optuna(p.distribution) for p in searched},
            user_attrs={"config": dict(config), "seed": seed} | ({} if again is None else {"again": again}),
        )
        with _translated():
            trial_id = self._storage.create_new_trial(self._study_id, template_trial=template)
            number = self._storage.get_trial_number_from_id(trial_id)
        self._trial_ids[number] = trial_id
        return number

    def record_epoch(self, number: int, epoch: int, measured: Mapping[str, float], value: float) -> None:
        """Record one epoch of a trial.

        Parameters
        ----------
        number : int
            The trial.
        epoch : int, at least 1
            The epoch.
        measured : mapping
            Everything that was measured in it.
        value : float
            The best objective so far, NaN where the loss was not finite.
        """
        trial_id = self._trial_id(number)
        with self.batch():
            self._storage.set_trial_user_attr(trial_id, f"{_EPOCH}{epoch:06d}", dict(measured))
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def record_execution(self, number: int, execution: Mapping[str, Scalar]) -> None:
        """Record how a trial's device is used."""
        with self.batch():
            self._storage.set_trial_user_attr(self._trial_id(number), "execution", dict(execution))

    def pause(self, number: int, epoch: int, reason: str) -> None:
        """Record that a trial waits after an epoch; with its next epoch it runs again."""
        with self.batch():
            self._storage.set_trial_user_attr(self._trial_id(number), "paused", {"epoch": epoch, "reason": reason})

    def end(
        self,
        number: int,
        state: End,
        reason: str,
        value: float,
        error: str = "",
        diagnosis: Mapping[str, str] | None = None,
    ) -> None:
        """Close a trial.

        Parameters
        ----------
        number : int
            The trial.
        state : str
            complete, stopped, diverged or failed.
        reason : str
            Why it ended.
        value : float
            Its best objective; not finite if it has none.
        error : str
            The traceback of a failed trial.
        diagnosis : mapping or None
            What its curves look like.
        """
        trial_id = self._trial_id(number)
        has_value = state in {"complete", "stopped"} and math.isfinite(value)
        optuna_state = _OPTUNA_STATES[state] if has_value or state != "complete" else TrialState.FAIL
        with self.batch():
            ended: dict[str, Any] = {"state": state, "reason": reason} | ({"error": error} if error else {})
            ended |= {"diagnosis": dict(diagnosis)} if diagnosis else {}
            self._storage.set_trial_user_attr(trial_id, "ended", ended)
            self._storage.set_trial_state_values(trial_id, state=optuna_state, values=[value] if has_value else None)

    def trials(self) -> list[TrialRecord]:
        """Read all trials, in the order of their numbers."""
        with _translated():
            return [self._record(trial) for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)]

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = trial_id
        return self._trial_ids[number]

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        epochs = sorted(key for key in attributes if key.startswith(_EPOCH))
        ended = _find_state(attributes, len(epochs))
        return TrialRecord(
            stage=self.name,
            number=trial.number,
            config=attributes["config"],
            seed=attributes["seed"],
            state=ended["state"],
            reason=ended["reason"],
            epochs=tuple(attributes[key] for key in epochs),
            values=tuple(value for _, value in sorted(trial.intermediate_values.items())),
            started=_utc(trial.datetime_start),
            ended=_utc(trial.datetime_complete),
            error=ended.get("error", ""),
            execution=attributes.get("execution", {}),
            diagnosis=ended.get("diagnosis", {}),
            again=attributes.get("again"),
        )


class Ledger:
    """The record of one search: its stages, in order.

    Parameters
    ----------
    storage : BaseStorage
        The Optuna storage that holds it.
    search : str
        The search's name.
    batch : function without arguments to context manager
        How the storage writes several things at once, if it can.
    """

    def __init__(self, storage: BaseStorage, search: str, batch: Batch = contextlib.nullcontext) -> None:
        self.search = search
        self._storage = storage
        self._batch = batch

    @classmethod
    def open(cls, folder: Path, *, create: bool = False, lease: Lease | None = None) -> Self:
        """Open the ledger of a search.

        Parameters
        ----------
        folder : Path
            The search's folder; its name is the search's.
        create : bool
            Whether to begin one where there is none.
        lease : Lease or None
            Without it nothing is written; None lets anybody write.

        Raises
        ------
        SearchNotFoundError
            If there is none and ``create`` is false.
        LedgerError
            If it cannot be read or written.
        """
        store = find_store(folder)
        if create:
            store.begin()
        elif not store.has_ledger():
            others = [other.name for other in list_searches(folder.parent)]
            raise SearchNotFoundError(
                f"no search is called {folder.name!r} in {folder.parent}; "
                + (f"there are: {', '.join(others)}" if others else "there is none yet: start one with tuner run SPEC")
            )
        storage, backend = store.open()
        backend.lease = lease
        return cls(storage, folder.name, backend.batch)

    def stages(self) -> list[StageLedger]:
        """Return the stages of the search that have begun, in their order."""
        return [stage for stage in self.everything() if FINAL not in stage.attributes]

    def finals(self) -> list[StageLedger]:
        """Return what was trained after the search to choose among its best, in its order."""
        return [stage for stage in self.everything() if FINAL in stage.attributes]

    def everything(self) -> list[StageLedger]:
        """Return all that has begun, in its order: the stages of the search, and what came after it."""
        with _translated():
            studies = sorted(self._storage.get_all_studies(), key=lambda study: study._study_id)
        # a stage whose attributes were not written any more has not begun
        return [
            StageLedger(self._storage, study._study_id, study.study_name, self._batch)
            for study in studies
            if study.user_attrs
        ]

    def stage(self, name: str) -> StageLedger | None:
        """Return one stage, of the search or after it, or None if it has not begun."""
        return next((stage for stage in self.everything() if stage.name == name), None)

    def begin_stage(self, name: str, *, maximize: bool, **attributes: Any) -> StageLedger:
        """Open a stage and record what it was begun with.

        Parameters
        ----------
        name : str
            The stage's name.
        maximize : bool
            Whether a larger objective is better.
        **attributes
            Values that JSON can hold.
        """
        direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study that is created is not news
        try:
            with _translated():
                try:
                    study_id = self._storage.create_new_study([direction], f"{self.search}/{name}")
                except optuna.exceptions.DuplicatedStudyError:  # begun by a driver that was killed before it said how
                    study_id = self._storage.get_study_id_from_name(f"{self.search}/{name}")
        finally:
            optuna.logging.set_verbosity(verbosity)
        stage = StageLedger(self._storage, study_id, f"{self.search}/{name}", self._batch)
        stage.set(**attributes)
        return stage


def read_attributes(trial: FrozenTrial) -> dict[str, Scalar]:
    """Return what the ledger has of a trial beside its config and values, in plain numbers and texts for tables.

    Parameters
    ----------
    trial : FrozenTrial
        A trial of one of the ledger's studies.

    Returns
    -------
    dict
        Its state, reason, diagnosis and seed, how its device was used, and what its latest epoch measured.
    """
    attributes = trial.user_attrs
    epochs = sorted(key for key in attributes if key.startswith(_EPOCH))
    ended = _find_state(attributes, len(epochs))
    plain = {"state": ended["state"], "reason": ended["reason"], "seed": attributes["seed"]}
    plain |= {"diagnosis": ended["diagnosis"]["kind"]} if ended.get("diagnosis") else {}
    plain |= {f"execution.{name}": value for name, value in attributes.get("execution", {}).items()}
    return plain | (attributes[epochs[-1]] if epochs else {})


def _find_state(attributes: Mapping[str, Any], num_epochs: int) -> dict[str, Any]:
    """Return a trial's end; else that it waits, if it has trained no further since, or runs."""
    paused = attributes.get("paused", {"epoch": 0})
    if "ended" in attributes:
        return dict(attributes["ended"])
    if paused["epoch"] == num_epochs > 0:
        return {"state": "paused", "reason": paused["reason"]}
    return {"state": "running", "reason": ""}


def _as_optuna(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.options)
    if isinstance(distribution, Uniform):
        return FloatDistribution(distribution.low, distribution.high, step=distribution.step)
    if isinstance(distribution, LogUniform):
        return FloatDistribution(distribution.low, distribution.high, log=True)
    if isinstance(distribution, LogInt):
        return IntDistribution(distribution.low, distribution.high, log=True)
    return IntDistribution(distribution.low, distribution.high, step=distribution.step)


def _utc(naive: datetime.datetime | None) -> datetime.datetime | None:
    """Optuna writes local time without a zone."""
    return None if naive is None else naive.astimezone(datetime.UTC)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"the ledger cannot be written ({error.strerror or error}); free space there, then run the same again"
        ) from error
