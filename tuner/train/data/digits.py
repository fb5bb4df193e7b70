"""The digits that come with scikit-learn: real images without a download."""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tuner.errors import DataError
from tuner.train.data.images import LabelledImages
from tuner.train.data.opening import Opening
from tuner.train.data.stratify import draw_stratified

TEST_SHARE = 0.2
TEST_SEED = 20_260_101  # of the test split alone: whatever a search's seed, the same 359 images stay out of it
CLASS_NAMES = tuple("0123456789")
NUM_IMAGES = 1797
BRIGHTEST = 16  # each pixel counts the set ones of a 4x4 block of the scanned bitmap


def find_digits() -> Path:
    """Find scikit-learn's file without importing scikit-learn, which would cost a second.

    Raises
    ------
    DataError
        If scikit-learn is not installed or has no such file.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("data digits: they come with scikit-learn, which is not installed; pip install scikit-learn")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        raise DataError(f"data digits: scikit-learn is installed without {path}; install it again")
    return path


def load_digits(path: Path, opening: Opening | None = None) -> LabelledImages:
    """Load one split of the 1,797 grey 8x8 digits of the UCI Optical Recognition data set.

    It has no test split of its own here, so a fifth of each class is set aside by a seed of its own.

    Parameters
    ----------
    path : Path
        The file ``digits.csv.gz``: a row per image, 64 pixels from 0 to 16 and the label.
    opening : Opening or None
        None for the 1,438 images of the training split; for the other 359, which test, that they are opened.

    Raises
    ------
    DataError
        If the file is not what scikit-learn ships.

    References
    ----------
    .. [1] Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
       1998.
    """
    is_test = Opening.is_given(opening)
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); install scikit-learn again") from error
    if table.shape != (NUM_IMAGES, 65):
        raise DataError(f"{path}: a table of 1797 x 65 was expected, found {table.shape}; install scikit-learn again")
    labels = table[:, 64].astype(np.int64)
    test = draw_stratified(labels, TEST_SHARE, TEST_SEED)
    rows = test if is_test else np.setdiff1d(np.arange(NUM_IMAGES), test)
    pixels = np.rint(table[rows, :64] * (255 / BRIGHTEST)).astype(np.uint8)
    return LabelledImages(pixels.reshape(-1, 8, 8, 1), labels[rows], CLASS_NAMES)
