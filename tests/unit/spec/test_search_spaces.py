import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tuner.spec import FinishedSearch, Space, build_json_schema, load_spec
from tuner.spec.domain import find_domain
from tuner.spec.hyperparameters import ARCHITECTURES, COMPONENTS, ResNet
from tuner.spec.space import Choice, Scalar
from tuner.spec.yaml_tree import parse_yaml, to_plain

FOLDER = Path(__file__).parents[3] / "search_spaces"
FILES = sorted(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_search_file_loads_without_a_warning(path: Path) -> None:
    warnings: list[str] = []
    load_spec(path, warn=warnings.append)
    assert warnings == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_search_file_is_valid_by_the_schema_that_it_points_to(path: Path) -> None:
    text = path.read_text()
    pointer = text.splitlines()[0].partition("$schema=")[2]
    assert (path.parent / pointer).resolve() == FOLDER.parent / "tuner" / "spec" / "search.schema.json"
    tree, _ = parse_yaml(text)
    assert tree is not None
    jsonschema.Draft202012Validator(build_json_schema()).validate(to_plain(tree))


def test_the_searches_that_are_shipped_are_there() -> None:
    names = {str(path.relative_to(FOLDER)): load_spec(path).name for path in FILES}
    assert names["coarse.yaml"] == "digits"
    assert names["cifar100/coarse.yaml"] == "cifar100"
    assert load_spec(FOLDER / "fine.yaml").space == FinishedSearch(name="digits")


def find_options(name: str, parameter: str) -> set[Scalar]:
    space = load_spec(FOLDER / name).space
    assert isinstance(space, Space)
    distribution = space[parameter].distribution
    assert isinstance(distribution, Choice)
    return set(distribution.options)


def test_the_shipped_spaces_search_every_family_and_every_unit() -> None:
    assert find_options("cifar100/coarse.yaml", "architecture") == set(ARCHITECTURES)
    assert find_options("coarse.yaml", "architecture") == {"simple_cnn", "lenet", "resnet"}
    units = set(find_domain(ResNet, "unit").words)
    assert find_options("resnet_units.yaml", "architecture.resnet.unit") == units


def test_no_family_or_optimizer_needs_a_hyperparameter_that_a_space_may_leave_out() -> None:
    for options in COMPONENTS.values():
        for record in options.values():
            assert record() is not None


def test_the_spec_imports_no_heavy_library() -> None:
    code = "import sys, tuner.spec; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    heavy = {"numpy", "torch", "ray", "optuna", "mlflow", "pyarrow", "jsonschema", "sklearn", "click", "rich"}
    assert heavy.isdisjoint(done.stdout.split())
