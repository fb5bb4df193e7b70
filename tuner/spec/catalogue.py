"""Every key of a search file with what it means, what it allows and what it is by default."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.errors import SpecError
from tuner.spec.domain import find_domain, show_value
from tuner.spec.faults import suggest
from tuner.spec.hyperparameters import COMPONENTS, Hyperparameters
from tuner.spec.model import SpecModel
from tuner.spec.search import (
    DataSpec,
    Halving,
    Limits,
    Narrow,
    Notify,
    Objective,
    Resources,
    SearchSpec,
    StageAsWritten,
    TensorBoard,
    Tracking,
)
from tuner.spec.yaml_tree import printable

STAGE = "STAGE"
"""Stands for any stage's name in a key."""
RENAMED = {"limits.time_s": "limits.time", "first": "try"}  # by their name in the record
ALLOWED = {  # of what is no single value
    "limits.time_s": "a duration, such as 90s, 30m or 2h",
    "objective.also": "a list of metrics",
    "first": "a list of configurations, nested as the space is",
    "warm_start": "a list of searches' names",
    "notify.command": "a list of texts",
    "notify.webhook": "an address, with $NAME for what is secret in it",
    "notify.events": "a list of end, failure and best",
    "storage": "auto, or postgresql://USER@HOST:PORT/DATABASE",
    "name": "letters, digits, dots, - and _",
    "data": "a data set's name, or a mapping with the keys below",
    "stages": "a mapping from stages' names to what each is",
    "space": "a mapping with the hyperparameters below, each with a value or what it is drawn from: uniform, "
    "loguniform, int, logint or choice; or {from: SEARCH}",
}
SECTIONS: dict[str, type[SpecModel]] = {
    "data": DataSpec,
    "objective": Objective,
    "space": Hyperparameters,
    f"stages.{STAGE}": StageAsWritten,
    f"stages.{STAGE}.halving": Halving,
    f"stages.{STAGE}.narrow": Narrow,
    "resources": Resources,
    "limits": Limits,
    "tracking": Tracking,
    "tensorboard": TensorBoard,
    "notify": Notify,
}


@dataclass(frozen=True)
class Entry:
    """One key.

    Attributes
    ----------
    key : str
        Its path in the file, with dots; ``STAGE`` for any stage.
    meaning : str
        What it is for.
    allowed, default : str
        In words; empty where there is nothing to say, and where it must be given.
    """

    key: str
    meaning: str
    allowed: str
    default: str


def list_entries() -> tuple[Entry, ...]:
    """Return all keys, in the order of a file."""
    entries = list(_read(SearchSpec, ""))
    for path, record in SECTIONS.items():
        entries += _read(record, f"{path}.")
    for name, options in COMPONENTS.items():
        for option, record in options.items():
            meaning = (record.__doc__ or "").splitlines()[0]
            entries.append(Entry(f"space.{name}.{option}", meaning, "", ""))
            entries += _read(record, f"space.{name}.{option}.")
    return tuple(entries)


def find_entries(asked: str) -> tuple[Entry, ...]:
    """Find the keys that are asked for: a whole path, the end of one, or what stands under it.

    Parameters
    ----------
    asked : str
        Such as ``stages.coarse.halving.reduction``, ``halving.reduction`` or ``reduction``.

    Raises
    ------
    SpecError
        If there is none.
    """
    entries = list_entries()
    words = asked.split(".")
    found = [entry for entry in entries if _ends_with(entry.key.split("."), words)]
    if not found:
        last = words[-1]
        names = list(dict.fromkeys(entry.key.rpartition(".")[2] for entry in entries))
        near = f"; {last} is one: tuner explain {last}" if last in names else suggest(last, names)
        raise SpecError(f"no key of a search file is called {printable(asked)}{near or '; tuner explain lists all'}")
    below = [entry for entry in entries for one in found if entry.key.startswith(f"{one.key}.")]
    return tuple(dict.fromkeys([*found, *(below if len(found) == 1 else [])]))


def _ends_with(key: list[str], words: list[str]) -> bool:
    """Tell whether a key's path ends so; any word may stand for a stage's name."""
    end = key[len(key) - len(words) :]
    return len(words) <= len(key) and all(part in {STAGE, word} for part, word in zip(end, words, strict=True))


def _read(record: type[SpecModel], prefix: str) -> Iterator[Entry]:
    for name, field in record.model_fields.items():
        path = f"{prefix}{name}"
        if record is StageAsWritten and name == "name":
            continue
        allowed = ALLOWED.get(path, "")
        is_section = path in SECTIONS or any(section.startswith(f"{path}.") for section in SECTIONS)
        if not allowed and not is_section and prefix != "space.":
            allowed = find_domain(record, name).describe()
        elif not allowed and prefix == "space.":
            allowed = find_domain(Hyperparameters, name).describe()
        default = field.default if isinstance(field.default, bool | int | float | str) else None
        shown = "" if default is None else show_value(default)
        yield Entry(RENAMED.get(path, path), field.description or "", allowed, shown)
