import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import searches, spaces

from tuner.spec import FinishedSearch, SearchSpec, load_text
from tuner.spec.annotate import dump_annotated_spec

SPEC = """\
name: small
data: digits
space:
  architecture: {choice: {lenet: {}, resnet: {depth: {choice: [8, 14]}, width: 16}}}
  learning_rate: {loguniform: [1e-3, 1.0]}
stages: {only: {trials: 12, max_epochs: 4}}
"""

SENTENCES = st.lists(st.from_regex(r"[a-z0-9#:'\"{}\[\]|>*&!%,-]{1,40}", fullmatch=True), min_size=1).map(" ".join)


def read_comments(text: str) -> list[tuple[str, str]]:
    """Every comment whole, and what stands in the line below it."""
    found: list[tuple[str, str]] = []
    parts: list[str] = []
    for line in text.split("\n"):
        start = line.lstrip(" ")
        if start.startswith("#   "):
            parts[-1] += f" {start[4:]}"
        elif start.startswith("# "):
            parts.append(start[2:])
        else:
            found += [(part, start) for part in parts]
            parts = []
    return found


@settings(max_examples=25)
@given(searches(spaces()), SENTENCES, st.data())
def test_whatever_the_search_and_the_comments_it_loads_as_it_was(
    spec: SearchSpec, heading: str, data: st.DataObject
) -> None:
    assert not isinstance(spec.space, FinishedSearch)
    keys = {parameter.name: parameter.key for parameter in spec.space.parameters} | {"gone": "stages"}
    comments = {name: data.draw(SENTENCES) for name in keys}
    text = dump_annotated_spec(spec, heading, comments)
    assert load_text(text) == spec
    first, *found = read_comments(text)
    assert first[0] == heading
    assert sorted(comment for comment, _ in found) == sorted(f"{name}: {comments[name]}" for name in keys)
    for comment, below in found:
        assert below.startswith(f"{keys[comment.partition(': ')[0]]}:")


def test_a_comment_cannot_break_out_of_its_line() -> None:
    text = dump_annotated_spec(load_text(SPEC), "a\nname: b", {"learning_rate": "c\u2028seed: 3\rd\x07"})
    assert load_text(text) == load_text(SPEC)
    assert ("learning_rate: c\\u2028seed: 3\\rd\\x07", "learning_rate: {loguniform: [0.001, 1.0]}") in read_comments(
        text
    )


def test_every_hyperparameter_has_a_line_with_its_comment_above() -> None:
    spec = load_text(SPEC)
    comments = {
        "architecture": "kept",
        "architecture.resnet.depth": f"narrowed, and why: {' '.join(['because'] * 12)}",
        "architecture.resnet.width": "a constant",
        "architecture.vgg.depth": "dropped",
        "learning_rate": "widened",
    }
    lines = dump_annotated_spec(spec, "what this is", comments).splitlines()
    start = lines.index("space:")
    assert lines[0] == "# what this is"
    assert lines[start + 1 : lines.index("stages:")] == [
        "  # architecture: kept",
        "  architecture:",
        "    choice:",
        "      lenet: {}",
        "      resnet:",
        "        # architecture.resnet.depth: narrowed, and why: because because because because because because",
        "        #   because because because because because because",
        "        depth: {choice: [8, 14]}",
        "        # architecture.resnet.width: a constant",
        "        width: 16",
        "  # learning_rate: widened",
        "  learning_rate: {loguniform: [0.001, 1.0]}",
        "  # architecture.vgg.depth: dropped",
    ]


def test_a_space_that_comes_from_a_search_has_no_lines_to_comment_on() -> None:
    with pytest.raises(ValueError, match="comes from a finished search"):
        dump_annotated_spec(load_text(SPEC, overrides=["space={from: earlier}"]), "", {})
