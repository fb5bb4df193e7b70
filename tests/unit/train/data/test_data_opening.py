"""The test split is sealed until its opening is on record."""

import ast
from pathlib import Path

import pytest

import tuner
from tuner.errors import LedgerError, SealedSplitError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, open_images, prepare, prepare_test
from tuner.train.data.sources import find_source

DIGITS = DataSpec(name="digits")


@pytest.mark.parametrize("forged", [None, True, object(), Opening.__new__(Opening)])
def test_without_a_recorded_opening_a_test_split_cannot_be_read(cache: Path, forged: object) -> None:
    train = prepare(DIGITS, cache)
    with pytest.raises(SealedSplitError, match="tuner finalize"):
        prepare_test(DIGITS, cache, train, forged)  # type: ignore[arg-type]
    with pytest.raises(SealedSplitError, match="tuner finalize"):
        find_source(DIGITS, cache, "test", None, forged)  # type: ignore[arg-type]


def test_it_is_recorded_before_it_is_read_and_not_read_if_that_fails(cache: Path) -> None:
    def fail() -> None:
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError):
        Opening(fail)
    recorded: list[str] = []
    opening = Opening(lambda: recorded.append("opened"))
    assert recorded == ["opened"]
    assert len(open_images(prepare_test(DIGITS, cache, prepare(DIGITS, cache), opening)).labels) == 359


def test_one_place_alone_opens_a_test_split() -> None:
    """What the package itself calls: no second caller may slip in."""
    package = Path(tuner.__file__).parent
    callers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Opening", "prepare_test"}
    }
    assert callers == {"execute/verdict.py"}
