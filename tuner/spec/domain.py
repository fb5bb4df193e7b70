"""What one field of a record may be, read off the record itself, so that it is written down once."""

import functools
import math
import types
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tuner.spec.faults import Fault, enumerate_words, suggest
from tuner.spec.hyperparameters import COMPONENTS
from tuner.spec.space import Choice, Distribution, Int, Scalar, Uniform
from tuner.spec.yaml_tree import Node, ScalarNode, show

Kind = Literal["bool", "int", "float", "text"]
_KINDS: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}
_NOUNS: dict[Kind, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "text": "text",
}
LARGEST = 2**1000  # whole numbers are smaller
_YAML_1_1_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True)
class Domain:
    """The values that a field allows: some words or numbers by name, a kind of value, or both.

    Attributes
    ----------
    kind : str or None
        The type of the values that are not named; None where all are.
    words : tuple
        The values that are named.
    low, high : float or None
        Bounds of a number, themselves included unless ``is_low_open`` or ``is_high_open``.
    is_optional : bool
        Whether nothing is allowed too.
    """

    kind: Kind | None = None
    words: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None
    is_low_open: bool = False
    is_high_open: bool = False
    is_optional: bool = False

    @property
    def takes_alternatives(self) -> bool:
        """Whether its values are words, each of which can have a space of its own."""
        return self.kind is None and bool(self.words) and all(isinstance(word, str) for word in self.words)

    def describe(self) -> str:
        """Say in words what is allowed: ``a whole number from 1 to 8``."""
        words = [show_value(word) for word in self.words]
        if self.kind is None:
            return f"one of {enumerate_words(words)}" if len(words) > 1 else words[0]
        return enumerate_words([*words, f"{_NOUNS[self.kind]}{self._describe_bounds()}"])

    def _describe_bounds(self) -> str:
        low = "" if self.low is None else f"{'above' if self.is_low_open else 'at least'} {show_value(self.low)}"
        high = "" if self.high is None else f"{'below' if self.is_high_open else 'at most'} {show_value(self.high)}"
        if low and high and not (self.is_low_open or self.is_high_open):
            return f" from {show_value(self.low)} to {show_value(self.high)}"
        both = " and ".join(bound for bound in (low, high) if bound)
        return f" {'of ' if both.startswith('at') else ''}{both}" if both else ""

    def is_in_bounds(self, value: float) -> bool:
        """Tell whether a number is finite and lies within the bounds."""
        if not _is_finite(value):
            return False
        low_fits = self.low is None or (value > self.low if self.is_low_open else value >= self.low)
        high_fits = self.high is None or (value < self.high if self.is_high_open else value <= self.high)
        return low_fits and high_fits

    def read(self, node: Node, faults: list[Fault]) -> Scalar | None:
        """Return a node's value, as the field's type, or say what is wrong with it.

        Returns
        -------
        bool, int, float, str or None
            None where nothing stands and nothing is allowed, and where a fault was added.
        """
        if isinstance(node, ScalarNode):
            if node.value is None and self.is_optional:
                return None
            for word in self.words:
                if word == node.value and type(word) is type(node.value):
                    return word
            value = self._convert(node.value)
            if value is not None:
                return value
        faults.append(Fault(node.place, f"must be {self.describe()}, found {show(node)}{self._advise(node)}"))
        return None

    def _convert(self, value: Scalar | None) -> Scalar | None:
        """Return a value of the right type and size, with whole numbers taken as floats; None for another."""
        if self.kind == "float" and type(value) is int:
            value = float(value) if _is_finite(value) else math.inf
        if self.kind is None or value is None or _KINDS[type(value)] != self.kind:
            return None
        if isinstance(value, int | float) and self.kind != "bool" and not self.is_in_bounds(value):
            return None
        return value

    def _advise(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            return ""
        value = node.value
        if isinstance(value, int | float) and not _is_finite(value):
            return "; write a finite number" if isinstance(value, float) else "; write a number of fewer digits"
        if isinstance(value, float) and value.is_integer():
            is_allowed = self._convert(int(value)) is not None or int(value) in self.words
            return f"; write {int(value)}" if is_allowed else ""
        if isinstance(value, str):
            if self.kind == "bool" and value.lower() in _YAML_1_1_BOOLS:
                return f"; write {_YAML_1_1_BOOLS[value.lower()]}"
            if _is_number(value) and (self.kind in {"int", "float"} or not self.takes_alternatives):
                return "; write it without quotes"
            return suggest(value, [word for word in self.words if isinstance(word, str)])
        return "; put it in quotes" if self.kind == "text" and value is not None else ""


def _is_finite(value: float) -> bool:
    """Tell whether a number is finite, a whole one as a float too: float() and isfinite() of a larger one raise."""
    return abs(value) < LARGEST if isinstance(value, int) else math.isfinite(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def show_value(value: Scalar | None) -> str:
    """Write a value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def describe(distribution: Distribution) -> str:
    """Say in words what a distribution can give: ``8, 14 or 20``, or ``2 to 10 in steps of 4``."""
    if isinstance(distribution, Choice):
        return enumerate_words([show_value(option) for option in distribution.options])
    step = distribution.step if isinstance(distribution, Int | Uniform) else None
    ends = f"{show_value(distribution.low)} to {show_value(distribution.high)}"
    return ends if step in {None, 1} else f"{ends} in steps of {show_value(step)}"


@functools.cache
def find_domain(record: type[BaseModel], key: str) -> Domain:
    """Return what a field of a record may be."""
    field = record.model_fields[key]
    domain = _read_annotation(field.annotation, key)
    return _bound(domain, field.metadata)


def _read_annotation(annotation: Any, key: str) -> Domain:
    origin = get_origin(annotation)
    if annotation in _KINDS:
        return Domain(kind=_KINDS[annotation])
    if annotation is type(None):
        return Domain(is_optional=True)
    if origin is Literal:
        return Domain(words=get_args(annotation))
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return _bound(_read_annotation(inner, key), metadata)
    if origin in {Union, types.UnionType}:
        return functools.reduce(_unite, (_read_annotation(part, key) for part in get_args(annotation)))
    return Domain(words=tuple(COMPONENTS[key]))  # a network or an optimizer


def _unite(one: Domain, other: Domain) -> Domain:
    numbers = one if one.kind is not None else other
    words = tuple(dict.fromkeys(one.words + other.words))
    return replace(numbers, words=words, is_optional=one.is_optional or other.is_optional)


def _bound(domain: Domain, metadata: list[Any]) -> Domain:
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            domain = _bound(domain, entry.metadata)
        for name, is_open in (("ge", False), ("gt", True)):
            if hasattr(entry, name):
                domain = replace(domain, low=getattr(entry, name), is_low_open=is_open)
        for name, is_open in (("le", False), ("lt", True)):
            if hasattr(entry, name):
                domain = replace(domain, high=getattr(entry, name), is_high_open=is_open)
    return domain
