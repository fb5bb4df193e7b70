"""The test split is sealed until its opening is on record."""

import ast
import importlib
import inspect
import io
import pickle
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

import tuner
import tuner.train.data
from tuner.errors import DataError, LedgerError, SealedSplitError
from tuner.spec.search import DataSpec
from tuner.train.data import LabelledImages, Opening, open_images, prepare, prepare_test
from tuner.train.data.cache import build_once, map_images
from tuner.train.data.cifar import LAYOUTS, find_cifar, load_cifar
from tuner.train.data.decode import Wanted
from tuner.train.data.digits import find_digits, load_digits
from tuner.train.data.files import LocalFile
from tuner.train.data.folder import find_folder, load_folder
from tuner.train.data.idx import find_idx, load_idx, name_files, require_idx
from tuner.train.data.parquet import Columns, find_files, find_split, load_parquet
from tuner.train.data.sources import find_source
from tuner.train.data.svhn import load_svhn

DIGITS = DataSpec(name="digits")
FORGED = [None, "test", True, object(), Opening.__new__(Opening)]
CIFAR = LAYOUTS["cifar100", "fine"]
Reader = Callable[[Path, Any], object]


def name(*names: str) -> tuple[LocalFile, ...]:
    """Files that nobody has to open to know what they are."""
    return tuple(LocalFile(one, f"/nowhere/{one}") for one in names)


def read_folder(place: Path, opening: Any) -> object:
    """Read images whose folder stands beside one for training."""
    (place / "train").mkdir(exist_ok=True)
    return load_folder(name("a/1.png"), place / "test", Wanted(), io.BytesIO(), ("a", "b"), opening)


# every way to a test split: what it is called, and how it is tried with what is no opening
FINDERS: dict[Callable[..., object], Reader] = {
    name_files: lambda _, opening: name_files(opening),
    find_idx: find_idx,
    require_idx: require_idx,
    find_cifar: lambda place, opening: find_cifar(place, CIFAR, opening),
    find_folder: find_folder,
    find_split: lambda place, opening: find_split(str(place), opening),
    find_files: lambda place, opening: find_files(fs.LocalFileSystem(), str(place), "here", opening),
    find_source: lambda place, opening: find_source(DIGITS, place, None, opening),
    load_digits: lambda _, opening: load_digits(find_digits(), opening),
}
READERS: dict[Callable[..., object], Reader] = {
    load_idx: lambda _, opening: load_idx(
        name("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),  # type: ignore[arg-type]
        None,
        opening,
    ),
    load_svhn: lambda _, opening: load_svhn(*name("test_32x32.mat"), opening=opening),
    load_cifar: lambda _, opening: load_cifar(name("test", "meta"), CIFAR, opening),
    load_folder: read_folder,
    load_parquet: lambda _, opening: load_parquet(
        name("test-00000-of-00001.parquet"), Columns("image", "label"), Wanted(), io.BytesIO(), opening=opening
    ),
    prepare_test: lambda place, opening: prepare_test(DIGITS, place, prepare(DIGITS, place), opening),
    open_images: lambda place, opening: open_images(_prepare_opened(place), opening),
    map_images: lambda place, opening: map_images(_prepare_opened(place).path, opening),
}


def _prepare_opened(cache: Path) -> Any:
    """What a finished search leaves in the cache."""
    return prepare_test(DIGITS, cache, prepare(DIGITS, cache), Opening(lambda: None))


@pytest.mark.parametrize("forged", FORGED[1:])
@pytest.mark.parametrize("function", [*FINDERS, *READERS])
def test_nothing_but_an_opening_stands_for_the_test_split(
    function: Callable[..., object], forged: object, cache: Path, tmp_path: Path
) -> None:
    place = cache if function in {prepare_test, open_images, map_images} else tmp_path
    with pytest.raises(SealedSplitError, match="tuner finalize"):
        (FINDERS | READERS)[function](place, forged)


@pytest.mark.parametrize("function", READERS)
def test_a_reader_that_names_the_test_split_s_own_files_is_refused(
    function: Callable[..., object], cache: Path, tmp_path: Path
) -> None:
    place = cache if function in {prepare_test, open_images, map_images} else tmp_path
    with pytest.raises(SealedSplitError, match="tuner finalize"):
        READERS[function](place, None)


def test_no_way_to_the_images_is_left_out() -> None:
    """Whatever finds or returns images takes an opening, and is tried above."""
    modules = [
        importlib.import_module(f"tuner.train.data.{one.name}")
        for one in pkgutil.iter_modules(tuner.train.data.__path__)
    ]
    functions = {
        function
        for module in modules
        for public, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not public.startswith("_")
    }
    takes = {function for function in functions if "opening" in inspect.signature(function).parameters}
    assert takes - {build_once} == {*FINDERS, *READERS}, "build_once writes, and what it is given has read"
    returns = {one for one in functions if inspect.signature(one).return_annotation is LabelledImages}
    assert {load_digits, map_images} < returns <= takes


def test_an_opening_is_good_in_another_process_and_a_forged_one_is_not() -> None:
    sent = pickle.loads(pickle.dumps(Opening(lambda: None)))
    assert Opening.is_given(sent)
    with pytest.raises(SealedSplitError):
        Opening.is_given(pickle.loads(pickle.dumps(Opening.__new__(Opening))))


@pytest.mark.parametrize("name", ["train", "testing-0.parquet", "valley", "data_batch_1", "train-test.parquet"])
def test_what_is_for_training_is_not_taken_for_a_test(name: str) -> None:
    assert not Opening.is_given(None, name)


def test_a_training_folder_may_be_called_anything(tmp_path: Path) -> None:
    assert find_folder(tmp_path / "..") == tmp_path / ".."
    with pytest.raises(DataError, match="image files were expected"):
        load_folder((), tmp_path / "test", Wanted(), io.BytesIO(), ("a", "b"))


def test_it_is_recorded_before_it_is_read_and_not_read_if_that_fails(cache: Path) -> None:
    def fail() -> None:
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError):
        Opening(fail)
    recorded: list[str] = []
    opening = Opening(lambda: recorded.append("opened"))
    assert recorded == ["opened"]
    assert len(open_images(prepare_test(DIGITS, cache, prepare(DIGITS, cache), opening), opening).labels) == 359


def test_one_place_alone_opens_a_test_split() -> None:
    """What the package itself calls: no second caller may slip in."""
    package = Path(tuner.__file__).parent
    callers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Opening"
    }
    assert callers == {"execute/verdict.py"}
