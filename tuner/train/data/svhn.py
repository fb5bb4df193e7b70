"""Street View House Numbers: digits cut out of photographs of house fronts, as Matlab files."""

from pathlib import Path

import numpy as np

from tuner.errors import DataError
from tuner.train.data.files import LocalFile
from tuner.train.data.images import LabelledImages, check_class_sizes
from tuner.train.data.labels import check_numbers
from tuner.train.data.opening import Opening

CLASS_NAMES = tuple("0123456789")
ZERO = 10  # the label of the digit 0 in the files, for Matlab counts from 1


def load_svhn(file: LocalFile, opening: Opening | None = None) -> LabelledImages:
    """Load the 32x32 digits of one split.

    Parameters
    ----------
    file : LocalFile
        ``train_32x32.mat`` or ``test_32x32.mat``: ``X`` of 32x32x3 pixels by images, and ``y`` from 1 to 10.
    opening : Opening or None
        For the test split, in which a class may have no images; none for the training split.

    Raises
    ------
    DataError
        If the file is cut short or holds something else.

    References
    ----------
    .. [1] Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", NIPS Workshop
       on Deep Learning and Unsupervised Feature Learning, 2011.
    """
    is_test = Opening.is_given(opening, file.name)
    from scipy.io import loadmat  # noqa: PLC0415, a third of a second that the other data sets do without

    try:
        table = loadmat(Path(file.address), variable_names=["X", "y"])
        pixels, digits = table["X"], table["y"]
    except Exception as error:  # scipy raises nearly anything on broken bytes
        raise DataError(
            f"{file.address}: a whole Matlab file with X and y was expected, and it cannot be read as one ({error}); "
            "copy it again"
        ) from error
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3) or digits.shape != (*pixels.shape[3:], 1):
        raise DataError(
            f"{file.address}: X of 32x32x3xN bytes and y of Nx1 were expected, found {pixels.dtype} {pixels.shape} and "
            f"{digits.shape}; copy it again"
        )
    labels = digits[:, 0].astype(np.int64)
    labels[labels == ZERO] = 0
    labels = check_numbers(labels, CLASS_NAMES, f"{file.address}, y with 10 for 0")
    if not is_test:
        check_class_sizes(labels, CLASS_NAMES, file.address)
    return LabelledImages(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels, CLASS_NAMES)
