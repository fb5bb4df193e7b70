"""What is wrong with a file: every fault of it, each at its place, in one message."""

import difflib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

MOST_SHOWN = 50


@dataclass(frozen=True)
class Place:
    """Where something stands: a line and column, or the override that brought it in.

    Attributes
    ----------
    line, column : int, at least 1
        Counted as editors do; inside an override, of its value.
    key_path : str
        Keys from the root with dots between them; empty for the root itself.
    override : str or None
        The key path of the ``--set`` that this came from.
    """

    line: int
    column: int
    key_path: str = ""
    override: str | None = None

    def __str__(self) -> str:
        """Return the place as a fault's message begins."""
        where = f"line {self.line}, column {self.column}" if self.override is None else f"--set {self.override}"
        return where if self.key_path in {"", self.override} else f"{where}, {self.key_path}"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, and in words what is allowed, what was found and what to do."""

    place: Place
    message: str

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"{self.place}: {self.message}"


def list_faults(name: str, faults: Sequence[Fault]) -> str:
    """Write all faults of a file as one message, in the order of the file, overrides last.

    Parameters
    ----------
    name : str
        The file, as the user wrote it.
    faults : sequence of Fault
        At least one.
    """
    ordered = sorted(
        dict.fromkeys(faults),
        key=lambda fault: (fault.place.line, fault.place.column) if fault.place.override is None else (math.inf,),
    )
    lines = [f"{name}: {len(ordered)} fault{'s' if len(ordered) > 1 else ''}"]
    lines += [f"  {fault}" for fault in ordered[:MOST_SHOWN]]
    if len(ordered) > MOST_SHOWN:
        lines.append(f"  and {len(ordered) - MOST_SHOWN} more")
    return "\n".join(lines)


def suggest(found: str, allowed: Collection[str]) -> str:
    """Return ``; did you mean ...?`` if something allowed is near to what was found, else nothing."""
    near = difflib.get_close_matches(found.lower(), allowed, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def suggest_among(found: str, allowed: Collection[str]) -> str:
    """Return what ``suggest`` does, and then all that is allowed."""
    near = suggest(found, allowed)
    return f"{near} Allowed: {enumerate_words(allowed)}" if near else f"; allowed: {enumerate_words(allowed)}"


def enumerate_words(words: Collection[str], last: str = "or") -> str:
    """Join words as a sentence does: ``a, b or c``."""
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final
