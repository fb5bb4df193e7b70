"""Decoded images with their labels, and what must be true of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError

MIN_IMAGES_PER_CLASS = 2  # one to train on, one to validate with
IMBALANCE = 1.5  # of the largest class to the smallest, from which on it is told


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
    superclasses : int64 array, shape (num_classes,), or None
        The superclass of each class, from 0, where classes have one.
    notes : tuple of str
        What was found that is no error and that the user should know.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    superclasses: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

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


def describe_imbalance(class_sizes: Sequence[int], class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Say which class has the most images and which the fewest, if that is far apart.

    Parameters
    ----------
    class_sizes : sequence of int, length num_classes
        How many images each class has.
    class_names : tuple of str, length num_classes
        What each label means.

    Returns
    -------
    tuple of str
        One sentence, or none if the largest class has less than 1.5 times the images of the smallest.
    """
    largest, smallest = int(np.argmax(class_sizes)), int(np.argmin(class_sizes))
    if class_sizes[largest] < IMBALANCE * class_sizes[smallest] or largest == smallest:
        return ()
    return (
        f"the classes differ in size: {class_names[largest]} has {class_sizes[largest]:,} images, "
        f"{class_names[smallest]} has {class_sizes[smallest]:,}",
    )


def find_superclasses(
    labels: NDArray[np.int64], superclasses: NDArray[np.int64], class_names: tuple[str, ...], where: str
) -> NDArray[np.int64]:
    """Find the superclass of each class.

    Parameters
    ----------
    labels, superclasses : int64 arrays, shape (num_images,)
        The class and the superclass of each image.
    class_names : tuple of str, length num_classes
        What each label means.
    where : str
        The file, and the column in it, for the message.

    Returns
    -------
    int64 array, shape (num_classes,)
        From 0; that of a class without images is 0.

    Raises
    ------
    DataError
        If images of one class are of several superclasses.
    """
    found = np.zeros(len(class_names), dtype=np.int64)
    found[labels] = superclasses
    wrong = np.flatnonzero(found[labels] != superclasses)
    if wrong.size:
        name = class_names[labels[wrong[0]]]
        raise DataError(f"{where}: every class must be of one superclass, {name} is of several; copy the data again")
    return found
