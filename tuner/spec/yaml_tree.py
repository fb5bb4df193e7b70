"""YAML text to a tree whose every node knows its line and column.

Scalars are read by the core schema of YAML 1.2 (section 10.3 of its specification), not by PyYAML's 1.1:
``1e-4`` is a number, ``012`` is twelve, and ``yes``, ``no``, ``on`` and ``off`` are words. Only PyYAML's
composer is used and none of its constructors, so that no text can ever build an object.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from tuner.spec.faults import Fault, Place
from tuner.spec.space import Scalar

MOST_NODES = 10_000
MOST_LEVELS = 40

_UNTAGGED = "untagged"
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
NUMBER = re.compile(rf"({_OCTAL_OR_HEX.pattern}|{_FLOAT.pattern}|{_INFINITY.pattern})$")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_ADVICE = {
    "mapping values are not allowed": "a colon where no key can stand; check the indentation, and put "
    "text that has a colon in quotes",
    "could not find expected ':'": "a key without its colon; write key: value",
    "expected ',' or ']'": "a list that is not closed; add the comma or the ] that is missing",
    "expected ',' or '}'": "a mapping that is not closed; add the comma or the } that is missing",
    "expected <block end>": "a line that is indented differently from those it belongs to; align them",
    "found another document": "a second document; keep one and take out the --- before it",
    "found undefined alias": "an alias without its anchor; write the value itself",
    "found duplicate anchor": "an anchor of a name that is taken; write the value itself",
    "more than": f"more than {MOST_LEVELS} levels; no search needs so many",
    "found unexpected end of stream": "text whose quotes are not closed; add the quote that is missing",
}


@dataclass(frozen=True)
class ScalarNode:
    """A single value and how it is written."""

    place: Place
    value: Scalar | None
    text: str


@dataclass(frozen=True)
class ListNode:
    """A sequence of nodes."""

    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True)
class MapNode:
    """A mapping from keys to nodes, and the place of every key."""

    place: Place
    entries: dict[str, "Node"]
    keys: dict[str, Place]


Node: TypeAlias = ScalarNode | ListNode | MapNode


def resolve_plain(text: str) -> Scalar | None:
    """Read a scalar that stands without quotes, by the core schema of YAML 1.2.

    References
    ----------
    .. [1] YAML 1.2.2, section 10.3.2, "Tag Resolution".
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 400:  # a longer one is no number of ours, and int() refuses at 4,300
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    return text


def show(node: Node, room: int = 60) -> str:
    """Write a node as a message shows it: on one line, short, with nothing a terminal would obey."""
    if isinstance(node, ScalarNode):
        text = printable(node.text)
        text = json.dumps(text, ensure_ascii=False) if isinstance(node.value, str) and " " in text else text
        text = text or ("nothing" if node.value is None else '""')
    elif isinstance(node, ListNode):
        text = f"[{', '.join(show(item, room) for item in node.items[:room])}]"
    else:
        entries = list(node.entries.items())[:room]
        text = f"{{{', '.join(f'{printable(key)}: {show(value, room)}' for key, value in entries)}}}"
    return text if len(text) <= room else f"{text[: room - 3]}..."


def printable(text: str) -> str:
    """Escape what is no printable character, and cut what is too long to be read."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else f"{text[:77]}..."


def to_plain(node: Node) -> Any:
    """Return the node as plain dicts, lists and scalars."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [to_plain(item) for item in node.items]
    return {key: to_plain(value) for key, value in node.entries.items()}


class _Composer(Reader, Scanner, Parser, Composer):
    """PyYAML's stages up to the graph of nodes, without tags, and no deeper than is sensible."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        self._level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node and count the levels, which would else be Python's own stack.

        Raises
        ------
        MarkedYAMLError
            If the text nests deeper than any search does.
        """
        if self._level == MOST_LEVELS:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_LEVELS} levels", problem_mark=mark)
        self._level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def descend_resolver(self, *_: Any) -> None:
        """Do nothing: tags do not depend on the path."""

    ascend_resolver = descend_resolver

    def resolve(self, *_: Any) -> str:
        """Mark what has no tag, so that any other tag is one that was written out."""
        return _UNTAGGED


class _EndlessError(Exception):
    """A graph of nodes that makes no tree of sensible size; carries the fault."""


class _Converter:
    """Turns the graph of nodes into a tree and collects what is wrong on the way."""

    def __init__(self, override: str | None) -> None:
        self.faults: list[Fault] = []
        self._override = override
        self._num_nodes = 0
        self._open: list[int] = []

    def convert(self, node: yaml.Node, path: str) -> Node:
        """Turn one node and all under it.

        Raises
        ------
        _EndlessError
            If the tree would be infinite, too deep or too large.
        """
        place = self.place(node, path)
        self._num_nodes += 1
        if problem := self._find_problem(node):
            raise _EndlessError(Fault(place, problem))
        if node.tag != _UNTAGGED:
            tag = printable(node.tag.replace("tag:yaml.org,2002:", "!!"))
            self.faults.append(Fault(place, f"tags are not allowed, found {tag}; write the value without it"))
        self._open.append(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._convert_mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return ListNode(place, tuple(self.convert(item, f"{path}[{i}]") for i, item in enumerate(node.value)))
            assert isinstance(node, yaml.ScalarNode)
            text: str = node.value
            return ScalarNode(place, resolve_plain(text) if node.style is None else text, text)
        finally:
            self._open.pop()

    def place(self, node: yaml.Node, path: str) -> Place:
        """Return where a node begins."""
        return Place(node.start_mark.line + 1, node.start_mark.column + 1, path, self._override)

    def _find_problem(self, node: yaml.Node) -> str:
        if id(node) in self._open:
            return "an alias inside its own anchor never ends; write the value itself"
        if len(self._open) >= MOST_LEVELS:
            return f"more than {MOST_LEVELS} levels; no search needs so many"
        if self._num_nodes > MOST_NODES:
            return f"with its aliases the file has more than {MOST_NODES} values; write out what is needed alone"
        return ""

    def _convert_mapping(self, node: yaml.MappingNode, place: Place) -> MapNode:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            path = f"{place.key_path}.{printable(key)}" if place.key_path else printable(key)
            key_place = self.place(key_node, path)
            if not key:
                self.faults.append(Fault(self.place(key_node, place.key_path), "a key must be a word"))
            elif key == "<<":
                self.faults.append(Fault(key_place, "YAML 1.2 has no merge keys; write out the entries"))
            elif key in entries:
                first = keys[key].line
                self.faults.append(Fault(key_place, f"given twice, first on line {first}; keep one of them"))
            else:
                entries[key] = self.convert(value_node, path)
                keys[key] = key_place
        return MapNode(place, entries, keys)


def parse_yaml(text: str, path: str = "", override: str | None = None) -> tuple[Node | None, list[Fault]]:
    """Read one YAML document.

    Parameters
    ----------
    text : str
        The document.
    path : str
        The key path of its root, where it is the value of an override.
    override : str or None
        The key path of the ``--set`` that the text came from.

    Returns
    -------
    (Node or None, list of Fault)
        The tree, or None where the text is no YAML or is empty, and what is wrong so far.
    """
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        return None, [_explain(error, text, path, override)]
    except ReaderError as error:
        before = text[: error.position]
        column = error.position - before.rfind("\n")
        place = Place(before.count("\n") + 1, column, path, override)
        return None, [Fault(place, f"the character {error.character:#x} cannot stand in YAML; take it out")]
    if root is None:
        return None, []
    converter = _Converter(override)
    try:
        return converter.convert(root, path), converter.faults
    except _EndlessError as error:
        return None, [error.args[0]]


def _explain(error: yaml.MarkedYAMLError, text: str, path: str, override: str | None) -> Fault:
    """Say in our words why a text is no YAML."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)  # as PyYAML counts them
    source = lines[line] if line < len(lines) else ""
    indent = source[: len(source) - len(source.lstrip())]
    if "\t" in indent or source[column : column + 1] == "\t":
        tab = indent.find("\t") if "\t" in indent else column
        return Fault(Place(line + 1, tab + 1, path, override), "a tab; YAML takes only spaces, so replace it by spaces")
    problem = printable(str(error.problem or error.context))
    advice = next((advice for part, advice in _ADVICE.items() if part in problem), "")
    if not advice:
        advice = f"not YAML: {problem}; check the indentation, brackets and quotes"
    if error.context_mark is not None and error.context_mark.line != line:
        advice += f" (it begins on line {error.context_mark.line + 1})"
    return Fault(Place(line + 1, column + 1, path, override), advice)
