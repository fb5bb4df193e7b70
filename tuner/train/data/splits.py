"""The split into training and validation, and what images are normalised by."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.spec.search import DataSpec
from tuner.train.data.prepare import PreparedData, open_images, prepare
from tuner.train.data.stratify import draw_first, draw_stratified, order_stratified

SUMMED_AT_ONCE = 2**18  # pixels and channels; 2 MiB as float64 stay in a processor's cache
ORDER_SEED = 20_260_102  # of the order alone: a growing part of the data is the same in every search


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Images to train on and to validate with.

    The images are mapped from a file; send ``PreparedData`` to another process rather than this, which would
    be copied.

    Attributes
    ----------
    images : uint8 array, shape (num_images, height, width, channels), values 0 to 255
        All images of the training split.
    labels : int64 array, shape (num_images,)
        Each from 0 to ``num_classes - 1``.
    train, validation : int64 arrays, increasing
        Which images are trained on and which are validated with; every class in both. Together all, unless a
        fraction is trained on.
    mean, std : float64 arrays, shape (channels,), in units of a pixel value from 0 to 255
        Over the images that are trained on; the deviation of a constant channel is 1.
    class_names : tuple of str, length num_classes
        What each label means.
    identity : str
        The same for the same images, split the same way.
    superclasses : int64 array, shape (num_classes,), or None
        The superclass of each class, from 0, where classes have one.
    order : int64 array, shape (num_train,), or None
        ``train`` in a random order of which every beginning holds the classes in proportion; None for
        ``train`` as it stands.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    class_names: tuple[str, ...]
    identity: str
    superclasses: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


def open_splits(prepared: PreparedData, data: DataSpec, seed: int) -> ImageSplits:
    """Map prepared images and split them into training and validation.

    A cache file that is gone or damaged is a DataError.

    Parameters
    ----------
    prepared : PreparedData
        What ``prepare`` returned on this machine.
    data : DataSpec
        The share to validate with, of every class alike and at least one; and the fraction of the others to
        train on, of every class alike and at least one. The fraction changes nothing in what is validated with,
        and a smaller one is part of a larger.
    seed : int, at least 0
        The same seed splits the same way on every platform.
    """
    opened = open_images(prepared)
    labels = opened.labels
    held_out = draw_stratified(labels, data.validation, seed)
    train = np.setdiff1d(np.arange(len(labels)), held_out)
    identity = f"{prepared.content} validation {data.validation} seed {seed}"
    if data.fraction < 1:
        train = train[draw_first(labels[train], data.fraction, seed)]
        identity += f" fraction {data.fraction}"
    mean, std = measure_channels(opened.images, train)
    order = train[order_stratified(labels[train], ORDER_SEED)]
    return ImageSplits(
        opened.images,
        labels,
        train,
        held_out,
        mean,
        std,
        opened.class_names,
        identity,
        superclasses=opened.superclasses,
        order=order,
    )


def load_splits(data: DataSpec, cache_folder: Path, seed: int = 0) -> ImageSplits:
    """Prepare a data set's training split and split it as its spec says; errors are those of ``prepare``.

    Parameters
    ----------
    data : DataSpec
        Which images, the share to validate with and the fraction to train on.
    cache_folder : Path
        Where decoded images are kept, as for ``prepare``.
    seed : int, at least 0
        Fixed unless given, so that all searches of a data set validate with the same images.
    """
    return open_splits(prepare(data, cache_folder), data, seed)


def join_validation(splits: ImageSplits) -> ImageSplits:
    """Return the splits with the validation images trained on too, as for the last training of all.

    What is measured on them then is not validation any more.
    """
    train = np.union1d(splits.train, splits.validation)
    mean, std = measure_channels(splits.images, train)
    order = None if splits.order is None else train[order_stratified(splits.labels[train], ORDER_SEED)]
    return dataclasses.replace(
        splits, train=train, mean=mean, std=std, order=order, identity=f"{splits.identity} trained on whole"
    )


def measure_channels(
    images: NDArray[np.uint8], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the mean and the standard deviation of each channel over some of the images.

    Parameters
    ----------
    images : uint8 array, shape (num_images, height, width, channels)
        The images.
    chosen : int64 array, shape (num_chosen,), not empty
        Which of them to look at.

    Returns
    -------
    mean, std : float64 arrays, shape (channels,)
        In units of a pixel value; the deviation of a constant channel is given as 1, to divide by.

    Notes
    -----
    Sums of squares of bytes are whole numbers below 2**53 for up to 1.4e11 values, so they are exact in any
    order and the result is the same to the bit on every platform.
    """
    _, height, width, channels = images.shape
    at_once = max(1, SUMMED_AT_ONCE // (height * width * channels))
    total = np.zeros(width * channels)
    squares = np.zeros(width * channels)
    for start in range(0, len(chosen), at_once):
        rows = images[chosen[start : start + at_once]].reshape(-1, width * channels).astype(np.float64)
        total += rows.sum(axis=0)
        squares += np.einsum("rc,rc->c", rows, rows)
    count = len(chosen) * height * width
    # Python's integers keep the difference of two large squares exact: a constant channel is exactly zero
    sums = [int(value) for value in total.reshape(width, channels).sum(axis=0)]
    sums_of_squares = [int(value) for value in squares.reshape(width, channels).sum(axis=0)]
    spread = [count * square - one**2 for one, square in zip(sums, sums_of_squares, strict=True)]
    std = [math.sqrt(value) / count if value else 1.0 for value in spread]
    return np.array(sums) / count, np.array(std)
