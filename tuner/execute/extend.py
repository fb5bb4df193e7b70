"""More of a search: more trials, longer ones, more time, or its failed trials again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import InputError
from tuner.execute.asked import read_asked
from tuner.execute.experiment import is_complete
from tuner.execute.failures import find_failed
from tuner.execute.stage_run import RETRIED
from tuner.spec import dump_spec, load_text
from tuner.spec.search import Limits, Narrow, SearchSpec, Stage
from tuner.spec.sections import parse_duration
from tuner.track.ledger import Ledger, StageLedger
from tuner.track.store import find_store


@dataclass(frozen=True)
class More:
    """A number that was given as a new value, or with a plus sign, as what is added to the old one."""

    value: float
    is_added: bool

    @classmethod
    def read(cls, text: str, option: str) -> "More":
        """Read ``+50``, ``100``, ``+2h`` or ``90m``.

        Raises
        ------
        InputError
            If it is neither a whole number (of trials) nor a duration (of time).
        """
        is_added, plain = text.startswith("+"), text.removeprefix("+")
        value = parse_duration(plain) if option == "--time" else int(plain) if re.fullmatch("[0-9]{1,7}", plain) else 0
        if not value:
            example = "+2h, +90m, or the new limit" if option == "--time" else "+50, or the new number"
            raise InputError(f"{option}: must be above 0, found {text!r}; write {example}")
        return cls(value, is_added)

    def apply(self, old: float, option: str) -> float:
        """Return the new value.

        Raises
        ------
        InputError
            If it is not above the old one.
        """
        new = old + self.value if self.is_added else self.value
        if new <= old:
            raise InputError(
                f"{option}: it is {old:g} already, found {self.value:g}; write +{self.value:g} to add to it"
            )
        return new


def extend_search(
    folder: Path, *, trials: More | None, max_epochs: int | None, time_s: More | None, stage_name: str | None
) -> SearchSpec:
    """Ask more of a search, in its ledger, and return what is asked now.

    Parameters
    ----------
    folder : Path
        The search's folder.
    trials : More or None
        Trials of the stage, or of the further stage if ``max_epochs`` is given.
    max_epochs : int or None
        A further stage follows, whose trials train so long: a trial's learning rate falls over the length that it was
        made for, so the complete trials stay as they are, and the best of them are tried first, anew.
    time_s : More or None
        Seconds of the limit of time.
    stage_name : str or None
        The stage that gets the trials; None for the latest that has begun.

    Raises
    ------
    InputError
        If that is not more, or cannot be had any more.
    """
    Ledger.open(folder)  # before a folder is made for what is no search
    with find_store(folder).claimed() as lease:
        spec = read_asked(folder)
        ledger = Ledger.open(folder, lease=lease)
        limits = spec.limits
        if time_s is not None:
            if limits.time_s is None:
                raise InputError(
                    f"--time: search {spec.name!r} has no limit of time; go on with: tuner resume {spec.name}"
                )
            limits = limits.model_copy(update={"time_s": time_s.apply(limits.time_s, "--time")})
        stages, changed = spec.stages, None
        if max_epochs is not None:
            further = _lengthen(stages[-1], max_epochs, trials)
            stages, limits = (*stages, further), _allow(limits, further.trials)
        elif trials is not None:
            changed = _choose_stage(spec, ledger, stage_name)
            num_trials = int(trials.apply(changed.trials, "--trials"))
            limits = _allow(limits, num_trials - changed.trials)
            longer = changed.model_copy(update={"trials": num_trials})
            stages = tuple(longer if stage.name == changed.name else stage for stage in stages)
        elif is_complete(spec, ledger):
            raise InputError(f"search {spec.name!r} is complete; give --trials or --max-epochs, too")
        asked = spec.model_copy(update={"stages": stages, "limits": limits})
        load_text(dump_spec(asked), f"search {spec.name!r}, extended")  # refuses what a file could not ask for
        _record(asked, ledger, changed)
    return asked


def retry_failed(folder: Path, numbers: Sequence[int]) -> tuple[SearchSpec, list[str]]:
    """Ask for failed trials of a search again, as new trials with the same configurations and seeds.

    Parameters
    ----------
    folder : Path
        The search's folder.
    numbers : sequence of int
        Which ones of the latest stage; all if there is none.

    Returns
    -------
    SearchSpec, list of str
        What is asked now, and the trials' names.

    Raises
    ------
    InputError
        If there are none such.
    """
    Ledger.open(folder)  # before a folder is made for what is no search
    with find_store(folder).claimed() as lease:
        spec = read_asked(folder)
        ledger = Ledger.open(folder, lease=lease)
        recorded = ledger.stages()[-1]
        retried: list[int] = recorded.attributes.get(RETRIED, [])
        able = [trial for trial in find_failed(recorded.trials()) if trial.number not in retried]
        able_numbers = [trial.number for trial in able]
        if wrong := [number for number in numbers if number not in able_numbers]:
            raise InputError(
                f"--trial: stage {recorded.name!r} has no failed trial {wrong[0]}; failed and not tried again are: "
                f"{', '.join(map(str, able_numbers)) or 'none'}"
            )
        if not able:
            raise InputError(f"search {spec.name!r} has no failed trial in its latest stage, {recorded.name!r}")
        chosen = [trial for trial in able if not numbers or trial.number in numbers]
        stage = next(stage for stage in spec.stages if stage.name == recorded.name)
        longer = stage.model_copy(update={"trials": stage.trials + len(chosen)})
        stages = tuple(longer if s.name == stage.name else s for s in spec.stages)
        asked = spec.model_copy(update={"stages": stages, "limits": _allow(spec.limits, len(chosen))})
        with recorded.batch():
            recorded.set(**{RETRIED: [*retried, *(trial.number for trial in chosen)]})
            _record(asked, ledger, stage)
    return asked, [trial.name for trial in chosen]


def _allow(limits: Limits, num_trials: int) -> Limits:
    """Let a search begin more trials than its limit of trials would, if it has one."""
    return limits if limits.trials is None else limits.model_copy(update={"trials": limits.trials + num_trials})


def _lengthen(last: Stage, max_epochs: int, trials: More | None) -> Stage:
    """Make the stage that follows with longer trials: a share of as many, as halving would let go on.

    Raises
    ------
    InputError
        If they are not longer.
    """
    if max_epochs <= last.max_epochs:
        raise InputError(
            f"--max-epochs: the trials of the last stage, {last.name!r}, train {last.max_epochs} epochs, found "
            f"{max_epochs}; write more"
        )
    reduction = 3 if last.halving is None else last.halving.reduction
    num_trials = max(1, last.trials // reduction) if trials is None else int(trials.value)
    name = f"{last.name}_to_{max_epochs}"
    return last.model_copy(
        update={"name": name, "max_epochs": max_epochs, "trials": num_trials, "narrow": last.narrow or Narrow()}
    )


def _choose_stage(spec: SearchSpec, ledger: Ledger, name: str | None) -> Stage:
    """Choose the stage that gets more trials: none from whose trials another has begun.

    Raises
    ------
    InputError
        If there is none of that name, or another has begun from it.
    """
    begun = [stage.name for stage in ledger.stages()]
    open_stages = spec.stages[len(begun) - 1 :]
    name = begun[-1] if name is None else name
    for stage in open_stages:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in open_stages)
    why = f"{begun[-1]} has begun from it" if name in begun else "there is none of that name"
    raise InputError(f"--stage: {name!r} cannot get more trials, for {why}; able is: {known}")


def _record(asked: SearchSpec, ledger: Ledger, changed: Stage | None) -> None:
    """Write what is asked now to all stages, and that the changed one has not ended: at once or not at all."""
    stages: list[StageLedger] = ledger.stages()
    with stages[0].batch():
        for stage in stages:
            stage.set(asked=dump_spec(asked))
            if changed is not None and stage.name == changed.name:
                own = load_text(stage.attributes["spec"], "the ledger").model_copy(update={"stages": asked.stages})
                stage.set(spec=dump_spec(own), ended=None)
