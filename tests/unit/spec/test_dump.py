import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import FINISHED, NAMES, TEXTS, draw_config, searches, spaces

from tuner.spec import (
    DataSpec,
    SearchSpec,
    Space,
    TrainingSpec,
    build_hyperparameters,
    dump_config,
    dump_spec,
    dump_training_spec,
    load_text,
    load_training_text,
    nest_config,
)
from tuner.spec.dump import write_yaml
from tuner.spec.yaml_tree import parse_yaml, to_plain


@settings(max_examples=50)
@given(searches())
def test_a_search_that_is_written_loads_to_the_equal_search(spec: SearchSpec) -> None:
    assert load_text(dump_spec(spec)) == spec


@settings(max_examples=50)
@given(searches(FINISHED), spaces())
def test_a_search_whose_finished_search_was_looked_up_is_written_as_one_that_loads(
    spec: SearchSpec, space: Space
) -> None:
    loaded = load_text(dump_spec(spec.model_copy(update={"space": space, "first": ()})))
    assert loaded.space == space
    assert loaded.stages[0] == spec.stages[0].model_copy(update={"narrow": None})
    assert loaded.stages[1:] == spec.stages[1:]


@given(spaces(), NAMES, st.none() | TEXTS, st.integers())
def test_a_training_that_is_written_loads_to_the_equal_training(
    space: Space, name: str, origin: str | None, seed: int
) -> None:
    config = draw_config(space, seed)
    spec = TrainingSpec(name=name, data=DataSpec(name="digits"), config=config, epochs=3, origin=origin)
    loaded = load_training_text(dump_training_spec(spec))
    assert loaded == spec
    assert {name: type(value) for name, value in loaded.config.items()} == {n: type(v) for n, v in config.items()}


@given(spaces(), st.integers())
def test_every_point_of_a_space_builds_hyperparameters(space: Space, seed: int) -> None:
    config = draw_config(space, seed)
    assert space.contains(config)
    hyperparameters = build_hyperparameters(config)
    for key, value in config.items():
        if "." not in key and key not in {"architecture", "optimizer"}:
            assert getattr(hyperparameters, key) == value


@settings(max_examples=300)
@given(st.dictionaries(TEXTS, TEXTS | st.from_regex(r"[-+.0-9eEx_:~]{1,6}", fullmatch=True)))
def test_text_stays_text(tree: dict[str, str]) -> None:
    node, faults = parse_yaml(write_yaml(tree))
    assert faults == []
    assert node is not None
    assert to_plain(node) == tree


@pytest.mark.parametrize("text", ["1e-4", "012", "0o7", "0x1F", "true", "yes", "null", "~", "", ".5", ".inf", "1:30"])
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert write_yaml({"key": text}) in {f"key: '{text}'\n", f'key: "{text}"\n'}


def test_a_config_is_written_as_nested_constants() -> None:
    config = {"architecture": "resnet", "architecture.resnet.depth": 14, "learning_rate": 1e-05}
    assert nest_config(config) == {"architecture": {"resnet": {"depth": 14}}, "learning_rate": 1e-05}
    assert dump_config(config) == "architecture:\n  resnet: {depth: 14}\nlearning_rate: 1e-05\n"
