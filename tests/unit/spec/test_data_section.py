"""The data section: which keys go with which data set."""

import itertools
from typing import Any, get_args

import jsonschema
import pytest

from tuner.errors import SpecError
from tuner.spec import build_json_schema, dump_spec, load_text
from tuner.spec.dump import write_yaml
from tuner.spec.search import DataSpec

NAMES = get_args(DataSpec.model_fields["name"].annotation)
ASKED: dict[str, Any] = {
    "path": "images",
    "labels": "coarse",
    "size": 32,
    "corrupt": 0.1,
    "download": False,
    "image_column": "img",
    "label_column": "kind",
    "fraction": 0.5,
    "validation": 0.3,
}
IMAGES = {"path", "size", "corrupt", "fraction", "validation"}
DOWNLOADED = {"path", "download", "fraction", "validation"}
KEYS = {
    "digits": {"fraction", "validation"},
    "mnist": DOWNLOADED,
    "fashion_mnist": DOWNLOADED,
    "cifar10": DOWNLOADED,
    "cifar100": DOWNLOADED | {"labels"},
    "svhn": DOWNLOADED,
    "imagenet": IMAGES,
    "folder": IMAGES,
    "parquet": IMAGES | {"image_column", "label_column"},
    "idx": {"path", "fraction", "validation"},
}
NEEDED = {"folder", "imagenet", "parquet", "idx"}
SCHEMA = jsonschema.Draft202012Validator(build_json_schema())


def build_tree(data: Any) -> dict[str, Any]:
    return {
        "name": "x",
        "data": data,
        "space": {"architecture": "lenet"},
        "stages": {"coarse": {"trials": 2, "max_epochs": 1}},
    }


def read(data: Any) -> DataSpec:
    return load_text(write_yaml(build_tree(data))).data


def is_valid(data: Any) -> bool:
    return SCHEMA.is_valid(build_tree(data))


def test_every_data_set_is_known_here() -> None:
    assert set(KEYS) == set(NAMES)


@pytest.mark.parametrize(("name", "key"), [*itertools.product(NAMES, ASKED)])
def test_a_key_goes_with_some_data_sets_alone(name: str, key: str) -> None:
    data = {"name": name, **({"path": "images"} if name in NEEDED else {}), key: ASKED[key]}
    if key in KEYS[name]:
        assert getattr(read(data), key) == ASKED[key]
        assert is_valid(data)
        return
    with pytest.raises(SpecError, match=f"the data set {name} has no {key}; take it out, or write name: ") as caught:
        read(data)
    assert all((other in str(caught.value).split("write name:")[1]) for other in KEYS if key in KEYS[other])
    assert not is_valid(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_needed_where_nothing_is_downloaded(name: str) -> None:
    for data in (name, {"name": name}, {"name": name, "path": None}):
        if name in NEEDED:
            with pytest.raises(SpecError, match=f"path is missing; the data set {name} is a folder"):
                read(data)
        else:
            assert read(data) == DataSpec(name=name)
        assert is_valid(data) == (name not in NEEDED)
    with pytest.raises(SpecError, match=r"path is missing|is empty; name a folder"):
        read({"name": name, "path": ""})
    assert not is_valid({"name": name, "path": ""})


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_all_defaults_written_out_is_read_again(name: str) -> None:
    data = {"name": name, **({"path": "images"} if name in NEEDED else {})}
    spec = load_text(write_yaml(build_tree(data)))
    assert load_text(dump_spec(spec)) == spec
    assert is_valid({**data, "labels": "fine", "corrupt": 0.0, "download": True, "size": None})


def test_addresses_are_for_parquet_and_hold_no_password() -> None:
    assert read({"name": "parquet", "path": "s3://bucket/x"}).path == "s3://bucket/x"
    with pytest.raises(SpecError, match="the data set folder is read from a folder of this machine; copy it there"):
        read({"name": "folder", "path": "s3://bucket/x"})
    assert not is_valid({"name": "folder", "path": "s3://bucket/x"})
    with pytest.raises(SpecError, match="a password does not belong here") as caught:
        read({"name": "parquet", "path": "s3://key:secret@bucket/x"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("fraction", 0), ("fraction", 1.5), ("size", 4), ("corrupt", 1)])
def test_numbers_have_bounds(key: str, value: float) -> None:
    data = {"name": "folder", "path": "x", key: value}
    with pytest.raises(SpecError, match=rf"data\.{key}: must be"):
        read(data)
    assert not is_valid(data)
