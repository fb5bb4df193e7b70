"""Every key of a search file is explained, and no other."""

from collections.abc import Iterator
from typing import Any

import pytest

from tuner.errors import SpecError
from tuner.spec import build_json_schema
from tuner.spec.catalogue import find_entries, list_entries


def list_properties(schema: dict[str, Any]) -> Iterator[str]:
    """The names of all properties in a JSON Schema."""
    for value in schema.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from list_properties(one)
    properties = schema.get("properties", {})
    if isinstance(properties, dict):
        yield from properties


def test_whatever_the_schema_knows_is_explained() -> None:
    explained = {entry.key.rpartition(".")[2] for entry in list_entries()} | {
        word for entry in list_entries() for word in entry.key.split(".")
    }
    words = {"from", "choice", "uniform", "loguniform", "int", "logint", "step", "prior", "guess", "confidence"}
    assert set(list_properties(build_json_schema())) <= explained | words


def test_each_key_says_what_it_is() -> None:
    entries = list_entries()
    assert len({entry.key for entry in entries}) == len(entries) > 100
    assert [entry.key for entry in entries if not entry.meaning] == []


def test_a_key_is_found_by_its_end_and_under_any_stage() -> None:
    (reduction,) = find_entries("reduction")
    assert reduction.key == "stages.STAGE.halving.reduction"
    assert reduction == find_entries("stages.fine.halving.reduction")[0]
    assert (reduction.allowed, reduction.default) == ("a whole number from 2 to 16", "3")
    assert {entry.key for entry in find_entries("momentum")} >= {"space.optimizer.sgd.momentum"}
    assert [entry.key for entry in find_entries("narrow")][1:] == [
        "stages.STAGE.narrow.keep",
        "stages.STAGE.narrow.margin",
    ]


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean reduction"):
        find_entries("reductoin")
    with pytest.raises(SpecError, match="tuner explain reduction"):
        find_entries("limits.reduction")
