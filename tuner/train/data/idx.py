"""The IDX format, which MNIST came in and Fashion-MNIST after it."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.train.data.files import LocalFile, list_found
from tuner.train.data.images import LabelledImages, check_class_sizes
from tuner.train.data.labels import check_numbers
from tuner.train.data.opening import Opening

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # where its package dataset-fashion-mnist puts it
DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
BYTES = 8  # the format's number for unsigned bytes
GZIP = b"\x1f\x8b"


def name_files(opening: Opening | None) -> tuple[str, str]:
    """Return the names of a split's files, of images and of labels."""
    prefix = "t10k" if Opening.is_given(opening) else "train"
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def find_idx(folder: Path, opening: Opening | None = None) -> tuple[LocalFile, LocalFile] | None:
    """Find the files of a split, plain or compressed.

    Parameters
    ----------
    folder : Path
        Where they should be.
    opening : Opening or None
        For the test split; none for the training split.

    Returns
    -------
    pair of LocalFile, or None
        Images and labels; none if one is not there.
    """
    found = []
    for name in name_files(opening):
        path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        if path is None:
            return None
        found.append(LocalFile(name, str(path)))
    return found[0], found[1]


def require_idx(folder: Path, opening: Opening | None = None) -> tuple[LocalFile, LocalFile]:
    """Find the files of a split, as ``find_idx`` does.

    Raises
    ------
    DataError
        If they are not there.
    """
    found = find_idx(folder, opening) if folder.is_dir() else None
    if found is None:
        there = list_found(folder) if folder.is_dir() else "no such folder"
        raise DataError(
            f"data.path {folder}: {' and '.join(name_files(opening))} were expected, each as it is or with .gz, "
            f"found {there}; copy them there"
        )
    return found


def load_idx(
    files: tuple[LocalFile, LocalFile], names: tuple[str, ...] | None, opening: Opening | None = None
) -> LabelledImages:
    """Load images and labels in the IDX format.

    Parameters
    ----------
    files : pair of LocalFile
        Of images, grey or in colour (three or four dimensions), and of labels.
    names : tuple of str or None
        What the labels mean; None names them by their digits.
    opening : Opening or None
        For the test split, in which a class may have no images; none for the training split.

    Raises
    ------
    DataError
        If a file is cut short, of another format, or they do not belong together; or if a label is no class,
        or a class has too few images.
    """
    is_test = Opening.is_given(opening, *(file.name for file in files))
    images, labels = (_read_array(Path(file.address)) for file in files)
    where = files[1].address
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in {1, 3} or 0 in images.shape:
        raise DataError(
            f"{files[0].address}: images must have the dimensions number, height, width and none, 1 or 3 channels, "
            f"found {images.shape}; write the file again"
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: a label for each of the {len(images):,} images of {files[0].name} was expected, found "
            f"{labels.shape}; copy both again"
        )
    numbers = check_numbers(labels, names, where)
    names = names or tuple(str(label) for label in range(int(numbers.max()) + 1))
    if not is_test:
        check_class_sizes(numbers, names, where)
    return LabelledImages(images, numbers, names)


def _read_array(path: Path) -> NDArray[np.uint8]:
    """Read a whole file: two zeros, the type, the number of dimensions, each of them, and then the values.

    Raises
    ------
    DataError
        If it is something else or cut short.
    """
    try:
        content = path.read_bytes()
        if content[:2] == GZIP:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, so it is cut short or damaged ({error}); copy it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != BYTES or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path}: unsigned bytes in the IDX format were expected, it begins with {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    expected = int(np.prod(shape, dtype=object)) if shape else 1
    if len(content) - start != expected:
        raise DataError(
            f"{path}: {expected:,} values were expected by its head, {shape}, found {len(content) - start:,}, so it is "
            "cut short or damaged; copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
