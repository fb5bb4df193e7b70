"""A folder for each class, with image files in it; ImageNet is laid out so too."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from tuner.errors import DataError
from tuner.train.data.decode import EncodedImage, Wanted, decode_images
from tuner.train.data.files import LocalFile, list_found, name_some
from tuner.train.data.images import LabelledImages, check_class_sizes
from tuner.train.data.opening import Opening

FILES_AT_ONCE = 1024


def find_folder(folder: Path, opening: Opening | None = None, held_out: str = "test") -> Path:
    """Find the folder of a split.

    Parameters
    ----------
    folder : Path
        The data set's.
    opening : Opening or None
        For the test split; none for the training split.
    held_out : str
        What the test split's is called.

    Returns
    -------
    Path
        The subfolder of that name; where there is no ``train``, the folder itself for it.

    Raises
    ------
    DataError
        If there is no such folder, or no test split.
    """
    is_test = Opening.is_given(opening)
    if not folder.is_dir():
        raise DataError(f"data.path {folder}: a folder with a folder for each class was expected, there is none")
    if is_test:
        refuse_no_split(folder, held_out)
        return folder / held_out
    return folder / "train" if (folder / "train").is_dir() else folder


def refuse_no_split(folder: Path, held_out: str = "test") -> None:
    """See that a data set has a folder for testing, without a look into it.

    Raises
    ------
    DataError
        If the classes stand in the folder itself, or there is none for testing.
    """
    if not (folder / "train").is_dir():
        raise DataError(
            f"data.path {folder}: there is no test split, for its classes stand in the folder itself; "
            f"move them into {folder / 'train'} and others for testing into {folder / held_out}"
        )
    if not (folder / held_out).is_dir():
        raise DataError(f"data.path {folder}: a folder {held_out} was expected, found {list_found(folder)}; add it")


def list_classes(folder: Path) -> tuple[str, ...]:
    """List the classes of a split: its folders in sorted order, but hidden ones.

    Raises
    ------
    DataError
        If there is none or the folder cannot be read.
    """
    found = list_found(folder)
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: a folder for each class was expected, found {found}; move the images into such")
    return tuple(names)


def list_images(folder: Path, class_names: Sequence[str]) -> tuple[LocalFile, ...]:
    """List the image files of all classes, however deep, class after class and in sorted order.

    What is an image is told by its name's ending, one that Pillow knows; other and hidden files are passed by.
    Links to folders are not followed.

    Parameters
    ----------
    folder : Path
        A split's.
    class_names : sequence of str
        Its classes.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = []
    for name in class_names:
        found = [
            os.path.join(place, file)  # noqa: PTH118, a million files
            for place, _, inside in os.walk(folder / name)
            for file in inside
            if os.path.splitext(file)[1].lower() in endings and not file.startswith(".")  # noqa: PTH122
        ]
        start = len(str(folder / name)) - len(name)  # no name begins with "." where that is the folder
        files += [LocalFile(path[start:].replace(os.sep, "/"), path) for path in sorted(found)]
    return tuple(files)


def load_folder(
    files: Sequence[LocalFile],
    where: Path,
    wanted: Wanted,
    scratch: BinaryIO,
    class_names: tuple[str, ...],
    opening: Opening | None = None,
) -> LabelledImages:
    """Load and decode the images of a split.

    Parameters
    ----------
    files : sequence of LocalFile
        What ``list_images`` found.
    where : Path
        The split's folder.
    wanted : Wanted
        How the images shall come out.
    scratch : binary file
        Gets the pixels, as for ``decode_images``.
    class_names : tuple of str
        The names of the classes' folders, in the order of the labels.
    opening : Opening or None
        For the test split, in which a class may have no images; none for the training split.

    Raises
    ------
    DataError
        If there are no images, a class has too few, or an image cannot be used.
    """
    has_splits = (where.parent / "train").is_dir()  # otherwise its name says nothing
    is_test = Opening.is_given(opening, *([where.name] if has_splits else []))
    numbers = {name: label for label, name in enumerate(class_names)}
    unknown = sorted({file.name.split("/")[0] for file in files} - set(numbers))
    if unknown:
        raise DataError(
            f"{where}: the classes must be those of the training split, found {name_some(unknown)}; rename or remove"
        )
    if not files:
        raise DataError(f"{where}: image files were expected in the folders of the classes, found none; add them")
    labels = np.array([numbers[file.name.split("/")[0]] for file in files], dtype=np.int64)
    if not is_test:
        check_class_sizes(labels, class_names, str(where))
    decoded = decode_images(_batch(files), str(where), wanted, scratch)
    labels = labels[decoded.kept]
    if not is_test:
        check_class_sizes(labels, class_names, str(where))
    return LabelledImages(decoded.images, labels, class_names, notes=decoded.notes)


def _batch(files: Sequence[LocalFile]) -> Iterator[list[EncodedImage]]:
    for start in range(0, len(files), FILES_AT_ONCE):
        yield [EncodedImage(Path(file.address), file.name) for file in files[start : start + FILES_AT_ONCE]]
