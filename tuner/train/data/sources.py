"""For each data set and split: which files it consists of, and what loads them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data.cifar import LAYOUTS, find_cifar, load_cifar
from tuner.train.data.decode import Wanted
from tuner.train.data.digits import find_digits, load_digits
from tuner.train.data.download import fetch, find_downloads
from tuner.train.data.files import StoredFile, find_local
from tuner.train.data.folder import find_folder, list_classes, list_images, load_folder
from tuner.train.data.idx import DEBIAN_FASHION, DIGITS, FASHION, find_idx, load_idx, require_idx
from tuner.train.data.images import LabelledImages
from tuner.train.data.opening import Opening
from tuner.train.data.parquet import Columns, find_columns, find_split, load_parquet
from tuner.train.data.svhn import load_svhn

NEEDED_FILES = {
    "folder": "a folder for each class",
    "idx": "train-images-idx3-ubyte",
    "imagenet": "the folders train and val",
    "parquet": "train.parquet",
}


class Source(NamedTuple):
    """What a split is made from.

    Attributes
    ----------
    where : str
        What to call it in a message.
    files : sequence of StoredFile
        All that it depends on.
    key : tuple
        What else it depends on: how the files are read.
    load : function of an empty file for pixels
        Reads and decodes them.
    """

    where: str
    files: Sequence[StoredFile]
    key: tuple[Any, ...]
    load: Callable[[BinaryIO], LabelledImages]


def find_source(
    data: DataSpec,
    downloads: Path,
    class_names: tuple[str, ...] | None = None,
    opening: Opening | None = None,
) -> Source:
    """Find the files of a split, downloading them if they can be.

    Parameters
    ----------
    data : DataSpec
        Which images.
    downloads : Path
        Where what is downloaded is kept if the user does not say where.
    class_names : tuple of str or None
        What the labels of a test split mean; None for a training split.
    opening : Opening or None
        For the test split, that it is on record; none for the training split.

    Raises
    ------
    DataError
        If a file is missing.
    """
    split = "test" if Opening.is_given(opening) else "train"
    if data.name == "digits":
        path = find_digits()
        return Source(
            str(path),
            find_local(path.parent, path.name),
            ("digits", split),
            lambda _: load_digits(path, opening),
        )
    if data.name in NEEDED_FILES and data.path is None:
        raise DataError(
            f"data.path: data {data.name} needs the folder that {NEEDED_FILES[data.name]} is in, found none; "
            "set data.path"
        )
    if data.name == "parquet":
        return _find_parquet(data, class_names, opening)
    folder = Path(data.path or downloads / data.name)
    if data.name in {"folder", "imagenet"}:
        return _find_folder(data, folder, class_names, opening)
    if data.name in {"idx", "mnist", "fashion_mnist"}:
        return _find_idx(data, folder, split, class_names, opening)
    if data.name == "svhn":
        return _find_svhn(data, folder, split, opening)
    return _find_cifar(data, folder, split, class_names, opening)


def _build_wanted(data: DataSpec) -> Wanted:
    return Wanted(data.size, data.corrupt, is_any_colour=data.name == "imagenet")


def _find_parquet(data: DataSpec, class_names: tuple[str, ...] | None, opening: Opening | None) -> Source:
    assert data.path is not None
    files = find_split(data.path, opening)
    columns = find_columns(files, data.image_column, data.label_column)
    wanted = _build_wanted(data)
    return Source(
        files[0].address if len(files) == 1 else data.path,
        files,
        ("parquet", *columns, *wanted, class_names),
        lambda scratch: load_parquet(files, columns, wanted, scratch, class_names, opening=opening),
    )


def _find_folder(data: DataSpec, folder: Path, class_names: tuple[str, ...] | None, opening: Opening | None) -> Source:
    place = find_folder(folder, opening, "val" if data.name == "imagenet" else "test")
    found = list_classes(place)
    files = list_images(place, found)
    wanted, names = _build_wanted(data), class_names or found
    return Source(
        str(place),
        files,
        ("folder", *wanted, "train" if opening is None else "test", names),
        lambda scratch: load_folder(files, place, wanted, scratch, names, opening),
    )


def _find_idx(
    data: DataSpec, folder: Path, split: str, class_names: tuple[str, ...] | None, opening: Opening | None
) -> Source:
    if data.name == "idx":
        files, names = require_idx(folder, opening), class_names
    else:
        names = DIGITS if data.name == "mnist" else FASHION
        is_packaged = data.name == "fashion_mnist" and data.path is None
        found = find_idx(folder, opening) or (find_idx(DEBIAN_FASHION, opening) if is_packaged else None)
        if found is None:
            _fetch(data, folder, split, lambda: find_idx(folder, opening) is not None)
            found = require_idx(folder, opening)
        files = found
    return Source(files[0].address, files, ("idx", names, split), lambda _: load_idx(files, names, opening))


def _find_svhn(data: DataSpec, folder: Path, split: str, opening: Opening | None) -> Source:
    files = find_local(folder, f"{split}_32x32.mat")
    if not Path(files[0].address).is_file():
        _fetch(data, folder, split, Path(files[0].address).is_file)
    return Source(files[0].address, files, ("svhn", split), lambda _: load_svhn(files[0], opening))


def _find_cifar(
    data: DataSpec, folder: Path, split: str, class_names: tuple[str, ...] | None, opening: Opening | None
) -> Source:
    layout = LAYOUTS[data.name, data.labels]
    files = find_cifar(folder, layout, opening)
    if files is None and (folder / f"{split}.parquet").is_file():
        return _find_cifar_parquet(data, folder, class_names, opening)
    if files is None:
        _fetch(data, folder, split, lambda: find_cifar(folder, layout, opening) is not None)
        files = find_cifar(folder, layout, opening)
    if files is None:
        raise DataError(f"{folder}: the archive of {data.name} does not hold the files that it should; delete it")
    found = files
    return Source(
        str(Path(found[0].address).parent),
        found,
        ("cifar", layout, split),
        lambda _: load_cifar(found, layout, opening),
    )


def _fetch(data: DataSpec, folder: Path, split: str, is_ready: Callable[[], bool]) -> None:
    fetch(find_downloads(data.name), split, folder, is_ready, is_allowed=data.download)


def _find_cifar_parquet(
    data: DataSpec, folder: Path, class_names: tuple[str, ...] | None, opening: Opening | None
) -> Source:
    label = "label" if data.name == "cifar10" else f"{data.labels}_label"
    files = find_split(str(folder), opening)
    columns: Columns = find_columns(files, None, label)
    super_column = "coarse_label" if label == "fine_label" else None
    return Source(
        files[0].address,
        files,
        ("parquet", *columns, super_column, class_names),
        lambda scratch: load_parquet(files, columns, Wanted(), scratch, class_names, super_column, opening),
    )
