"""A search as YAML that says beside every hyperparameter why it is as it is."""

import textwrap
from collections.abc import Mapping

from tuner.spec.dump import WIDTH, dump_spec
from tuner.spec.faults import Place
from tuner.spec.load import find_place
from tuner.spec.search import SearchSpec
from tuner.spec.space import Space
from tuner.spec.yaml_tree import MapNode, parse_yaml


def dump_annotated_spec(spec: SearchSpec, heading: str, comments: Mapping[str, str]) -> str:
    """Write a search as YAML with comments.

    Parameters
    ----------
    spec : SearchSpec
        The search, with a space of its own.
    heading : str
        A comment for the top of the file.
    comments : mapping from dotted names to str
        What to write above the line of each hyperparameter, and above that of ``stages.NAME``; that of a name which
        is neither in the space nor a stage stands at the space's end.

    Returns
    -------
    str
        What loads to the equal SearchSpec, as that of `dump_spec` does.

    Raises
    ------
    ValueError
        If the space is that of a finished search.
    """
    if not isinstance(spec.space, Space):
        raise ValueError("a space that comes from a finished search has no lines to comment on")
    text = dump_spec(spec, spread=True)
    tree, _ = parse_yaml(text)
    assert isinstance(tree, MapNode)
    names = {parameter.name for parameter in spec.space.parameters}
    end = Place(tree.keys["stages"].line, 3)
    listed = tree.entries["stages"]
    assert isinstance(listed, MapNode)
    stages = {f"stages.{name}": place for name, place in listed.keys.items()}
    above: dict[int, list[str]] = {0: _wrap(heading, 0)}
    for name, comment in comments.items():
        place = find_place(tree.entries["space"], name) if name in names else stages.get(name, end)
        above.setdefault(place.line - 1, []).extend(_wrap(f"{name}: {comment}", place.column - 1))
    lines = text.split("\n")
    return "\n".join(line for number, own in enumerate(lines) for line in (*above.get(number, ()), own))


def _wrap(text: str, indent: int) -> list[str]:
    """Break a text into lines of comment, between words only."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{' ' * indent}# ",
        subsequent_indent=f"{' ' * indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
