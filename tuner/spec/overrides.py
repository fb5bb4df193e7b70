"""Overrides from the command line, ``--set key.path=value``, laid into the tree before it is checked."""

from collections.abc import Sequence
from dataclasses import replace

from tuner.spec.faults import Fault, Place, enumerate_words, suggest
from tuner.spec.yaml_tree import MapNode, Node, ScalarNode, parse_yaml, printable, show

SHORTHANDS = {"data": "name", "objective": "metric"}


class _NowhereError(Exception):
    """A key path that leads nowhere."""


def apply_overrides(tree: MapNode, overrides: Sequence[str], faults: list[Fault]) -> MapNode:
    """Lay overrides into a tree, the later over the earlier.

    Parameters
    ----------
    tree : MapNode
        The file.
    overrides : sequence of str
        Each ``key.path=value``, the value in YAML. Keys that are missing on the way are made.
    faults : list of Fault
        Gets what is wrong, with the override in place of a line.

    Returns
    -------
    MapNode
        The tree as overridden; an override that is wrong changes nothing.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        shown = printable(".".join(keys))
        place = Place(1, 1, shown, shown)
        if not equals or not all(keys):
            message = "must be a key path, = and a value; write --set stages.coarse.trials=4"
            faults.append(Fault(place, message))
            continue
        value, found = parse_yaml(text, shown, shown)
        faults.extend(found)
        if value is None and found:
            continue
        try:
            laid = _lay(tree, keys, value or ScalarNode(place, None, ""), place, "")
        except _NowhereError as error:
            faults.append(Fault(place, str(error)))
        else:
            assert isinstance(laid, MapNode)
            tree = laid
    return tree


def _lay(node: Node | None, keys: list[str], value: Node, place: Place, path: str) -> Node:
    """Return the node with the value at its place below it.

    Raises
    ------
    _NowhereError
        If the file has no such place.
    """
    if not keys:
        return value
    if node is None or (isinstance(node, ScalarNode) and node.value is None):
        node = MapNode(replace(place, key_path=path), {}, {})
    elif isinstance(node, ScalarNode) and path in SHORTHANDS:
        word = SHORTHANDS[path]
        node = MapNode(node.place, {word: node}, {word: node.place})
    if not isinstance(node, MapNode):
        raise _NowhereError(f"there is nothing below {path}, which is {show(node)}; set {path} as a whole")
    key, *rest = keys
    if path == "stages" and rest and key not in node.entries:
        known = list(node.entries)
        allowed = f"; there are {enumerate_words(known, 'and')}" if known else ""
        raise _NowhereError(f"no stage is called {printable(key)}{suggest(key, known)}{allowed}")
    below = f"{path}.{printable(key)}" if path else printable(key)
    laid = _lay(node.entries.get(key), rest, value, place, below)
    key_place = node.keys.get(key) if rest else None
    keys_below = {**node.keys, key: key_place or replace(place, key_path=below)}
    return MapNode(node.place, {**node.entries, key: laid}, keys_below)
