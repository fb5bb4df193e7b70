"""CIFAR-10 and CIFAR-100, as their authors publish them."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.train.data.files import LocalFile, find_local
from tuner.train.data.images import LabelledImages, check_class_sizes, find_superclasses
from tuner.train.data.labels import check_numbers
from tuner.train.data.opening import Opening

_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]  # numpy's, wherever this version keeps it
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class Layout(NamedTuple):
    """How one of the two is laid out.

    Attributes
    ----------
    folder : str
        What its archive unpacks to.
    train, test : tuple of str
        Files with images.
    meta : str
        The file with the names of the classes.
    labels, names : str
        Keys of the labels in the files, and of the names in ``meta``.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str


_TEN = Layout(
    "cifar-10-batches-py",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("test_batch",),
    "batches.meta",
    "labels",
    "label_names",
)
_HUNDRED = Layout("cifar-100-python", ("train",), ("test",), "meta", "fine_labels", "fine_label_names")
LAYOUTS = {
    ("cifar10", "fine"): _TEN,
    ("cifar100", "fine"): _HUNDRED,
    ("cifar100", "coarse"): _HUNDRED._replace(labels="coarse_labels", names="coarse_label_names"),
}


def find_cifar(folder: Path, layout: Layout, opening: Opening | None = None) -> tuple[LocalFile, ...] | None:
    """Find the files of a split, in a folder or in the one that the archive unpacks to.

    Parameters
    ----------
    folder : Path
        Where they should be.
    layout : Layout
        What they are called.
    opening : Opening or None
        For the test split; none for the training split.

    Returns
    -------
    tuple of LocalFile, or None
        The files with images, and last the one with the names; none if one is not there.
    """
    names = (*(layout.test if Opening.is_given(opening) else layout.train), layout.meta)
    for place in (folder, folder / layout.folder):
        files = find_local(place, *names)
        if all(Path(file.address).is_file() for file in files):
            return files
    return None


def load_cifar(files: Sequence[LocalFile], layout: Layout, opening: Opening | None = None) -> LabelledImages:
    """Load 32x32 photographs and their labels.

    Parameters
    ----------
    files : sequence of LocalFile
        What ``find_cifar`` found.
    layout : Layout
        What they hold.
    opening : Opening or None
        For the test split, in which a class may have no images; none for the training split.

    Returns
    -------
    LabelledImages
        With the superclass of each class where the files tell of both.

    Raises
    ------
    DataError
        If a file is cut short, holds something else or would run code; or a label is no class.

    References
    ----------
    .. [1] Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    is_test = Opening.is_given(opening, *(file.name for file in files))
    *parts, meta = files
    names = tuple(_to_text(name) for name in _get(_load(meta), layout.names, meta))
    batches = [_load(part) for part in parts]
    where = parts[0].address
    pixels = [_get(batch, "data", part) for batch, part in zip(batches, parts, strict=True)]
    for block, part in zip(pixels, parts, strict=True):
        if not isinstance(block, np.ndarray) or block.dtype != np.uint8 or block.shape[1:] != (3072,):
            raise DataError(f"{part.address}: rows of 3,072 bytes were expected as its data; copy it again")
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = _join_labels(batches, parts, layout.labels, names, len(images))
    superclasses = None
    if layout.labels == "fine_labels":
        coarse = _join_labels(batches, parts, "coarse_labels", None, len(images))
        superclasses = find_superclasses(labels, coarse, names, where)
    if not is_test:
        check_class_sizes(labels, names, where)
    return LabelledImages(np.ascontiguousarray(images), labels, names, superclasses)


def _join_labels(
    batches: list[dict[str, Any]],
    parts: list[LocalFile],
    key: str,
    names: tuple[str, ...] | None,
    num_images: int,
) -> NDArray[np.int64]:
    """Join the labels of all files.

    Raises
    ------
    DataError
        If they are no whole numbers, no classes, or not as many as there are images.
    """
    found = [label for batch, part in zip(batches, parts, strict=True) for label in _get(batch, key, part)]
    if len(found) != num_images or not all(isinstance(label, int) for label in found):
        raise DataError(
            f"{parts[0].address}: {num_images:,} whole numbers were expected as {key}, found {len(found):,} entries; "
            "copy it again"
        )
    return check_numbers(np.array(found), names, f"{parts[0].address}, {key}")


def _load(file: LocalFile) -> dict[str, Any]:
    """Load a pickled dictionary, by its keys as text.

    Raises
    ------
    DataError
        If it is cut short, or asks for anything but arrays, dictionaries, lists, texts and numbers.
    """
    try:
        loaded = _Unpickler(Path(file.address).read_bytes()).load()
    except Exception as error:  # broken pickles raise nearly anything
        raise DataError(
            f"{file.address}: a pickled dictionary of arrays, lists and texts was expected, and it cannot be read as "
            f"one ({error}); copy it again"
        ) from error
    if not isinstance(loaded, dict):
        raise DataError(f"{file.address}: a dictionary was expected, found {type(loaded).__name__}; copy it again")
    return {_to_text(key): value for key, value in loaded.items()}


class _Unpickler(pickle.Unpickler):  # noqa: S301
    """Makes nothing but what the published files hold, so that a file cannot run code."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Return one of numpy's few functions that an array is made by.

        Raises
        ------
        pickle.UnpicklingError
            For anything else.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed") from None


def _get(loaded: dict[str, Any], key: str, file: LocalFile) -> Any:
    """Return an entry.

    Raises
    ------
    DataError
        If it is not there, or no list and no array.
    """
    value = loaded.get(key)
    if not isinstance(value, list | np.ndarray):
        raise DataError(f"{file.address}: a list of {key} was expected, found the keys {', '.join(loaded) or 'none'}")
    return value


def _to_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
