"""The search file to start from loads, for every data set, and holds what was wished for."""

import pytest

from tuner.errors import SpecError
from tuner.spec import load_text
from tuner.spec.sections import PATH_NEEDED
from tuner.spec.starter import KINDS, Wish, write_starter


@pytest.mark.parametrize("data", KINDS)
def test_a_file_for_each_data_set_loads(data: str) -> None:
    path = "a folder: of 'images'" if data in PATH_NEEDED else None
    spec = load_text(write_starter(Wish("123", data, "1h30m", path)))
    assert (spec.name, spec.data.name, spec.data.path, spec.limits.time_s) == ("123", data, path, 5400)
    assert [stage.name for stage in spec.stages] == ["coarse", "fine"]
    warnings: list[str] = []
    load_text(write_starter(Wish("a", data, "2d", path)), warn=warnings.append)
    assert not warnings


@pytest.mark.parametrize("word", ["true", "null", "NULL", "1e3", "0x1f", "no"])
def test_a_name_and_a_folder_are_text_whatever_yaml_makes_of_the_word(word: str) -> None:
    spec = load_text(write_starter(Wish(word, "folder", "1h", path=word)))
    assert (spec.name, spec.data.path) == (word, word)


@pytest.mark.parametrize(("budget", "time_s"), [("7200", 7200), ("90.5", 90.5), ("2h", 7200)])
def test_a_budget_is_a_duration_or_seconds(budget: str, time_s: float) -> None:
    assert load_text(write_starter(Wish("a", "digits", budget))).limits.time_s == time_s
    assert "on digits for 7200 s: coarse" in write_starter(Wish("a", "digits", "7200"))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("a", "digits", "soon"), "limits.time"),
        (Wish("a", "digits", "null"), "limits.time: must be a duration above 0, found null"),
        (Wish("a", "digits", "0"), "limits.time: must be a duration above 0, found 0"),
        (Wish("no name", "digits", "1h"), "name"),
        (Wish("a", "idx", "1h"), "path"),
        (Wish("a", "digits", "1h", size=16), "size"),
    ],
)
def test_a_wrong_wish_is_refused(wish: Wish, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        write_starter(wish)
