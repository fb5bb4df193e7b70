import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import searches

import tuner.spec
from tuner.errors import SpecError
from tuner.spec import SearchSpec, build_json_schema, dump_json_schema, dump_spec, load_text
from tuner.spec.dump import write_yaml
from tuner.spec.yaml_tree import parse_yaml, to_plain

VALIDATOR = jsonschema.Draft202012Validator(build_json_schema())
FOLDER = Path(__file__).parents[3] / "search_spaces"
VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    3,
    0.5,
    2.5,
    1e30,
    "",
    "auto",
    "none",
    "x",
    "30m",
    "1h1h",
    "lenet",
    "sgd",
    "val_loss",
    "min",
    "parquet",
    [],
    [0, 1],
    [1, 2],
    [2, 1],
    [0.5, 0.5],
    ["lenet"],
    {},
    {"choice": [1, 2]},
    {"choice": []},
    {"choice": [1, 1]},
    {"uniform": [0, 0.5]},
    {"loguniform": [0.1, 0.5]},
    {"loguniform": [0.1, 0.5], "prior": 0.2},
    {"int": [1, 3], "prior": {"guess": 2, "confidence": "high"}},
    {"choice": ["sgd", "adamw"], "prior": "sgd"},
    {"choice": {"lenet": None, "resnet": {}}, "prior": {"guess": "lenet"}},
    {"loguniform": [0, 0.5]},
    {"int": [1, 3], "step": 1},
    {"logint": [1, 8]},
    {"choice": {"lenet": None, "resnet": {}}},
    {"resnet": {"depth": 8}},
    {"sgd": {"momentum": 0.5}},
    {"from": "digits"},
    {"metric": "val_loss"},
    ["val_loss", "seconds"],
    {"also": ["parameters"]},
    {"min_epochs": 1},
    {"keep": 0.5},
]


def read(text: str) -> Any:
    tree, faults = parse_yaml(text)
    assert tree is not None
    assert faults == []
    return to_plain(tree)


def test_the_shipped_schema_is_the_one_that_is_built() -> None:
    shipped = Path(tuner.spec.__file__).with_name("search.schema.json")
    assert shipped.read_text() == dump_json_schema()


def test_the_schema_is_a_schema() -> None:
    VALIDATOR.check_schema(VALIDATOR.schema)


def list_paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [path, *(deeper for key in keys for deeper in list_paths(tree[key], (*path, key)))]


def replace_at(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(tree)
    changed[path[0]] = replace_at(tree[path[0]], path[1:], value)
    return changed


@given(searches())
def test_every_search_that_can_be_written_is_valid(spec: SearchSpec) -> None:
    VALIDATOR.validate(read(dump_spec(spec)))


@pytest.mark.parametrize("name", ["coarse.yaml", "fine.yaml", "cifar100/coarse.yaml"])
@given(data=st.data())
def test_what_load_spec_takes_the_schema_takes(name: str, data: st.DataObject) -> None:
    tree = read((FOLDER / name).read_text())
    where = data.draw(st.sampled_from(list_paths(tree)[1:]))
    changed = replace_at(tree, where, data.draw(st.sampled_from(VALUES)))
    try:
        load_text(write_yaml(changed))
    except SpecError:
        return
    VALIDATOR.validate(changed)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("nmae",), "x"),
        (("name",), "a/b"),
        (("data", "name"), "digit"),
        (("data", "path"), "x"),
        (("data",), {"name": "parquet"}),
        (("objective", "mode"), "min"),
        (("objective",), []),
        (("objective",), ["parameters"]),
        (("objective",), ["val_accuracy", "seconds", "seconds"]),
        (("objective",), {"also": ["size"]}),
        (("space", "depth"), 3),
        (("space", "momentum"), 0.9),
        (("space", "lerning_rate"), 0.1),
        (("space", "learning_rate"), 0),
        (("space", "learning_rate"), {"loguniform": [0, 1]}),
        (("space", "learning_rate"), {"int": [1, 2]}),
        (("space", "learning_rate"), {"loguniform": [0.1, 1], "step": 0.1}),
        (("space", "learning_rate"), {"uniform": [0.1]}),
        (("space", "architecture"), "resnt"),
        (("space", "architecture", "choice", "resnet", "depth"), 15),
        (("space", "architecture", "choice", "lenet", "depth"), 8),
        (("space", "architecture", "choice", "lenet", "architecture"), "lenet"),
        (("space", "architecture", "choice", "resnet", "depth"), {"int": [8, 14]}),
        (("stages",), {}),
        (("stages", "coarse", "trials"), 0),
        (("stages", "coarse", "halving"), "off"),
        (("stages", "coarse", "halving", "min_epoch"), 1),
        (("resources", "gpus"), 1.5),
        (("limits", "time"), "30x"),
        (("limits", "epochs"), 0),
        (("limits", "target"), "best"),
        (("tracking", "mlflow"), "nowhere"),
        (("tracking", "wandb"), ""),
        (("notify",), {}),
        (("notify",), {"events": ["end"]}),
        (("notify",), {"command": "mail me"}),
        (("notify",), {"command": []}),
        (("notify",), {"webhook": "ftp://host"}),
        (("notify",), {"webhook": "$HOOK", "events": ["start"]}),
        (("seed",), -1),
        (("space", "learning_rate"), {"loguniform": [0.1, 1], "prior": {"confidence": "low"}}),
        (("space", "learning_rate"), {"loguniform": [0.1, 1], "prior": {"guess": 0.2, "confidence": 0.5}}),
        (("space", "learning_rate"), {"loguniform": [0.1, 1], "prior": "small"}),
        (("try",), {"learning_rate": 0.1}),
        (("try",), [{"lerning_rate": 0.1}]),
    ],
)
def test_what_is_wrong_is_wrong_by_the_schema_too(where: tuple[str, ...], value: Any) -> None:
    tree = read((FOLDER / "coarse.yaml").read_text())
    VALIDATOR.validate(tree)
    parent = tree
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    assert not VALIDATOR.is_valid(tree)
    with pytest.raises(SpecError):
        load_text(write_yaml(tree))
