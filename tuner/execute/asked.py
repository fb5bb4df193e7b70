"""What a search was asked for, as its ledger has it."""

from collections.abc import Sequence
from pathlib import Path

from tuner.errors import InputError, SearchNotFoundError
from tuner.spec import load_text
from tuner.spec.search import SearchSpec
from tuner.track.ledger import Ledger


def read_asked(folder: Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Read what a search was last asked for.

    Parameters
    ----------
    folder : Path
        The search's folder.
    overrides : sequence of str
        ``key.path=value`` each, laid over it.

    Raises
    ------
    SearchNotFoundError
        If there is no such search, or it has not begun.
    InputError
        If the folder is that of a search of another name, put aside.
    SpecError
        If an override is wrong.
    """
    stages = Ledger.open(folder).stages()
    if not stages:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    spec = load_text(stages[-1].attributes["asked"], f"search {folder.name!r}", overrides)
    if spec.name != folder.name:
        raise InputError(
            f"{folder}: this folder has the search {spec.name!r}; rename it to {spec.name!r}, or move it to another "
            "folder for --results under that name"
        )
    return spec
