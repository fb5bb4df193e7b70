"""Decoded images with their labels, and what must be true of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError

MIN_IMAGES_PER_CLASS = 2  # one to train on, one to validate with


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size, each with its class.

    Attributes
    ----------
    images : uint8 array, shape (num_images, height, width, channels), values 0 to 255
        One channel for grey, three for red, green, blue.
    labels : int64 array, shape (num_images,)
        Each from 0 to ``num_classes - 1``.
    class_names : tuple of str, length num_classes
        What each label means.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels


def check_class_sizes(labels: NDArray[np.int64], class_names: tuple[str, ...], where: str) -> None:
    """Refuse images of which a class could not have one to train on and one to validate with.

    Parameters
    ----------
    labels : int64 array, shape (num_images,)
        Each from 0 to ``len(class_names) - 1``.
    class_names : tuple of str
        What each label means.
    where : str
        The file, and the column in it, for the message.

    Raises
    ------
    DataError
        If a class has fewer than two images, or there is only one class.
    """
    if len(class_names) < 2:
        raise DataError(f"{where}: at least 2 classes are needed, found {len(class_names)} in {len(labels)} images")
    counts = np.bincount(labels, minlength=len(class_names))
    small = np.flatnonzero(counts < MIN_IMAGES_PER_CLASS)
    if small.size:
        named = ", ".join(f"{label} ({class_names[label]}): {counts[label]}" for label in small[:5])
        more = f" and {small.size - 5} more classes" if small.size > 5 else ""
        raise DataError(
            f"{where}: every class needs at least {MIN_IMAGES_PER_CLASS} images, to train and to validate "
            "with; "
            f"found {named}{more}. Add images or leave the class out; labels count from 0 without gaps"
        )
