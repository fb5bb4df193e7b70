import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.yaml_tree import ListNode, MapNode, parse_yaml, printable, resolve_plain, show, to_plain

CHARACTERS = st.integers(0, 0xD7FF).map(chr)  # without the tables of st.characters, slow when first built


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("0b11", "0b11"),
        ("e5", "e5"),
        (".", "."),
        ("tRUE", "tRUE"),
    ],
)
def test_plain_scalars_are_read_by_the_core_schema(text: str, value: object) -> None:
    resolved = resolve_plain(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(resolve_plain(".nan"))  # type: ignore[arg-type]


def test_quoted_scalars_are_text() -> None:
    tree, faults = parse_yaml("a: \"1\"\nb: 'true'\nc: |\n  3\n")
    assert faults == []
    assert tree is not None
    assert to_plain(tree) == {"a": "1", "b": "true", "c": "3\n"}


def test_nodes_know_their_line_column_and_path() -> None:
    tree, _ = parse_yaml("a: 1\nb:\n  c: [x, {d: 2}]\n")
    assert isinstance(tree, MapNode)
    inner = tree.entries["b"]
    assert isinstance(inner, MapNode)
    assert str(inner.keys["c"]) == "line 3, column 3, b.c"
    items = inner.entries["c"]
    assert isinstance(items, ListNode)
    assert str(items.items[1].place) == "line 3, column 10, b.c[1]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1", "line 2, column 1: a tab; YAML takes only spaces"),
        ("a: 1\n b:\n  \tc: 1", "line 2, column 3: a colon where no key can stand"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1, a: given twice, first on line 1"),
        ("a: &x [*x]", "line 1, column 4, a[0]: an alias inside its own anchor never ends"),
        ("a: *x", "line 1, column 4: an alias without its anchor"),
        (
            "a: !!python/object/apply:os.system ['ls']",
            "line 1, column 4, a: tags are not allowed, found !!python/object",
        ),
        ("a: !!str 1", "line 1, column 4, a: tags are not allowed, found !!str"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3, column 3, c.<<: YAML 1.2 has no merge keys"),
        ("? [a]\n: 1", "line 1, column 3: a key must be a word"),
        ("a: [1,\nb: 2", "line 2, column 5: a list that is not closed"),
        ("a: b: c", "line 1, column 5: a colon where no key can stand"),
        ("a: 'b", "line 1, column 6: text whose quotes are not closed"),
        ("a: \x07", "line 1, column 4: the character 0x7 cannot stand in YAML"),
        ("a: 1\nb: \x00", "line 2, column 4: the character 0x0 cannot stand in YAML"),
        ("a: |\n  x\n y: 2", "line 3, column 2: a line that is indented differently"),
        ("[" * 5000, "more than 40 levels"),
    ],
)
def test_what_is_no_tree_is_a_fault_with_its_place(text: str, message: str) -> None:
    _, faults = parse_yaml(text)
    assert len(faults) == 1
    assert message in str(faults[0])


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    tree, faults = parse_yaml("\n".join(lines))
    assert tree is None
    assert "more than 10000 values" in str(faults[0])


def test_aliases_of_sensible_size_are_written_out() -> None:
    tree, faults = parse_yaml("a: &x {b: 1}\nc: *x\n")
    assert faults == []
    assert tree is not None
    assert to_plain(tree) == {"a": {"b": 1}, "c": {"b": 1}}


def test_nothing_is_no_tree_and_no_fault() -> None:
    assert parse_yaml("# a comment\n") == (None, [])


def test_a_huge_number_is_a_value_and_no_crash() -> None:
    tree, _ = parse_yaml(f"[{'9' * 5000}, 0x{'f' * 5000}]")
    assert tree is not None
    assert to_plain(tree)[0] == math.inf


@given(st.text(CHARACTERS | st.sampled_from("{}[]:,-?&*!|>'\"%@\t\n #<"), max_size=40))
def test_any_text_gives_a_tree_or_faults(text: str) -> None:
    tree, faults = parse_yaml(text)
    assert all(fault.place.line >= 1 and fault.place.column >= 1 for fault in faults)
    if tree is not None:
        assert len(show(tree)) <= 60


@given(st.text(CHARACTERS, max_size=200))
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) <= 80
