"""From the spec's data section to a file of decoded images."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data.cache import build_once, hash_content, map_images
from tuner.train.data.files import name_some
from tuner.train.data.images import LabelledImages, describe_imbalance
from tuner.train.data.opening import Opening
from tuner.train.data.sources import Source, find_source

DECODING = 2  # a new number makes every cached image be decoded again: raise it when the same bytes decode otherwise
DOWNLOADS = "downloads"


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
    class_sizes : tuple of int, length num_classes
        How many images each class has.
    notes : tuple of str
        What the user should know: images that were left out, classes far apart in size.
    """

    path: Path
    content: str
    num_images: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_sizes: tuple[int, ...]
    notes: tuple[str, ...]


def prepare(data: DataSpec, cache_folder: Path) -> PreparedData:
    """Decode a data set's training split, or find it decoded already; what is published is downloaded first.

    A test split's file is not opened, not even to see whether it is there. A data set that is missing, cut
    short, unlabelled, does not decode or is too small to validate with, and a folder that cannot be written,
    are a DataError that says where, what is allowed, what was found and what to do.

    Parameters
    ----------
    data : DataSpec
        Which images.
    cache_folder : Path
        Where decoded images are kept, and downloads in its folder ``downloads``; made if missing. Files in it
        are named after the content that they come from, so several searches, processes and data sets can share
        one folder. It may be emptied when nothing runs.
    """
    _make_folder(cache_folder)
    return _prepare(find_source(data, cache_folder / DOWNLOADS), cache_folder)


def prepare_test(data: DataSpec, cache_folder: Path, train: PreparedData, opening: Opening) -> PreparedData:
    """Decode a data set's test split: only for the one look at it after all searching.

    Parameters
    ----------
    data, cache_folder : DataSpec, Path
        As for ``prepare``.
    train : PreparedData
        The training split, which says what the labels mean and of what size images are.
    opening : Opening
        That it is on record; without it, a SealedSplitError.

    Raises
    ------
    DataError
        As ``prepare``, and if the images or classes are not those of the training split.
    """
    Opening.check(opening)
    _make_folder(cache_folder)
    source = find_source(data, cache_folder / DOWNLOADS, train.class_names, opening)
    test = _prepare(source, cache_folder, opening)
    if test.image_shape != train.image_shape:
        raise DataError(
            f"{source.where}: images must have the training split's height, width and channels {train.image_shape}, "
            f"found {test.image_shape}"
        )
    if test.class_names != train.class_names:
        raise DataError(
            f"{source.where}: the classes must be those of the training split, {name_some(train.class_names)}, found "
            f"{name_some(test.class_names)}"
        )
    return test


def open_images(prepared: PreparedData, opening: Opening | None = None) -> LabelledImages:
    """Map prepared images into memory; a cache file that is gone or damaged is a DataError.

    Parameters
    ----------
    prepared : PreparedData
        What ``prepare`` or ``prepare_test`` returned on this machine.
    opening : Opening or None
        For the latter; without it, a SealedSplitError.
    """
    return map_images(prepared.path, opening)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cache {folder}: a folder for decoded images is needed and cannot be made ({error.strerror}); "
            "choose another"
        ) from error


def _prepare(source: Source, folder: Path, opening: Opening | None = None) -> PreparedData:
    """Load a source's images into the cache, unless they are there."""
    identity = json.dumps([DECODING, hash_content(source.files, folder), *source.key])
    content = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    path = folder / f"images-{content}.arrow"
    build_once(path, source.load, opening)
    return _describe(path, content, map_images(path, opening))


def _describe(path: Path, content: str, images: LabelledImages) -> PreparedData:
    names = images.class_names
    sizes = tuple(np.bincount(images.labels, minlength=len(names)).tolist())
    notes = (*images.notes, *describe_imbalance(sizes, names))
    return PreparedData(path, content, len(images.labels), images.image_shape, names, sizes, notes)
