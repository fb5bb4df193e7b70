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
        If the folder is that of a search of another name, put aside, or an override names it anew.
    SpecError
        If an override is wrong.
    """
    stages = Ledger.open(folder).stages()
    if not stages:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    asked, where = stages[-1].attributes["asked"], f"search {folder.name!r}"
    name = load_text(asked, where).name
    if name != folder.name:
        raise InputError(
            f"{folder}: this folder has the search {name!r}; rename it to {name!r}, or move it to another "
            "folder for --results under that name"
        )
    spec = load_text(asked, where, overrides)
    if spec.name != name:
        raise InputError(
            f"--set name: a search that was begun keeps its name, {name!r}, found {spec.name!r}; begin another one "
            f"with: tuner run SPEC --set name={spec.name}"
        )
    return spec
