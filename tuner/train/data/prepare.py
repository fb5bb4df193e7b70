"""From the spec's data section to a file of decoded images."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data.cache import build_once, hash_content, map_images
from tuner.train.data.digits import find_digits, load_digits
from tuner.train.data.images import LabelledImages
from tuner.train.data.parquet import find_columns, find_split, load_parquet

DECODING = 1  # a new number makes every cached image be decoded again: raise it when the same bytes decode otherwise


@dataclass(frozen=True)
class PreparedData:
    """Decoded images that lie ready on this machine.

    Attributes
    ----------
    path : Path
        The cache file.
    content : str
        32 hexadecimal digits that are the same for the same images, wherever they lie.
    num_images : int
        How many there are.
    image_shape : tuple of int
        Height, width, channels.
    class_names : tuple of str, length num_classes
        What each label means.
    """

    path: Path
    content: str
    num_images: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]


def prepare(data: DataSpec, cache_folder: Path) -> PreparedData:
    """Decode a data set's training split, or find it decoded already.

    A test split's file is not opened, not even to see whether it is there. A data set that is missing, cut
    short, unlabelled, does not decode or is too small to validate with, and a folder that cannot be written,
    are a DataError that says where, what is allowed, what was found and what to do.

    Parameters
    ----------
    data : DataSpec
        Which images.
    cache_folder : Path
        Where decoded images are kept, made if missing. Files in it are named after the content that they come
        from, so several searches, processes and data sets can share one folder. It may be emptied when
        nothing runs.
    """
    _make_folder(cache_folder)
    if data.name == "digits":
        path = find_digits()
        return _prepare(path, cache_folder, ("digits", "train"), lambda: load_digits(path, "train"))
    path = find_split(_get_folder(data), "train")
    columns = find_columns(path, data.image_column, data.label_column)
    return _prepare(path, cache_folder, ("parquet", *columns), lambda: load_parquet(path, columns))


def prepare_test(data: DataSpec, cache_folder: Path, train: PreparedData) -> PreparedData:
    """Decode a data set's test split: only for the one look at it after all searching.

    Parameters
    ----------
    data, cache_folder : DataSpec, Path
        As for ``prepare``.
    train : PreparedData
        The training split, which says what the labels mean and of what size images are.

    Raises
    ------
    DataError
        As ``prepare``, and if the images or classes are not those of the training split.
    """
    _make_folder(cache_folder)
    if data.name == "digits":
        path = find_digits()
        return _prepare(path, cache_folder, ("digits", "test"), lambda: load_digits(path, "test"))
    path = find_split(_get_folder(data), "test")
    columns = find_columns(path, data.image_column, data.label_column)
    key = ("parquet", *columns, *train.class_names)
    test = _prepare(path, cache_folder, key, lambda: load_parquet(path, columns, train.class_names))
    if test.image_shape != train.image_shape:
        raise DataError(
            f"{path}: images must have the training split's height, width and channels {train.image_shape}, "
            f"found {test.image_shape}"
        )
    return test


def open_images(prepared: PreparedData) -> LabelledImages:
    """Map prepared images into memory; a cache file that is gone or damaged is a DataError.

    Parameters
    ----------
    prepared : PreparedData
        What ``prepare`` or ``prepare_test`` returned on this machine.
    """
    return map_images(prepared.path)


def _get_folder(data: DataSpec) -> Path:
    if data.path is None:
        raise DataError("data.path: data parquet needs the folder that train.parquet is in, found none; set data.path")
    return Path(data.path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cache {folder}: a folder for decoded images is needed and cannot be made ({error.strerror}); "
            "choose another"
        ) from error


def _prepare(source: Path, folder: Path, key: tuple[str, ...], load: Callable[[], LabelledImages]) -> PreparedData:
    """Load a source's images into the cache, unless they are there."""
    identity = json.dumps([DECODING, hash_content(source, folder), *key])
    content = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    path = folder / f"images-{content}.arrow"
    build_once(path, load)
    images = map_images(path)
    return PreparedData(path, content, len(images.labels), images.image_shape, images.class_names)
