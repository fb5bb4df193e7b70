"""A random part of every class."""

import numpy as np
from numpy.typing import NDArray


def draw_stratified(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of the images from every class alike.

    The number drawn is ``share`` of all, rounded, and of each class its proportional part, rounded up where
    the most would be lost (largest remainders); but of every class at least one is drawn and at least one is
    left.

    Parameters
    ----------
    labels : int64 array, shape (num_images,)
        Classes from 0, each with at least two images.
    share : float, above 0 and below 1
        How much to draw.
    seed : int, at least 0
        The same seed draws the same images on every platform.

    Returns
    -------
    int64 array, increasing
        Positions of the drawn images.

    Raises
    ------
    ValueError
        If a class has fewer than two images or ``share`` is not between 0 and 1.

    Notes
    -----
    The order comes from the raw output of PCG64, which numpy promises never to change; it promises no such
    thing for ``Generator.permutation``.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be above 0 and below 1, got {share}")
    sizes = np.bincount(labels)
    if sizes.size == 0 or sizes.min() < 2:
        raise ValueError(f"every class needs at least 2 images, got sizes {sizes.tolist()}")
    drawn = _share_out(sizes, share).clip(1, sizes - 1)
    by_class, starts = _shuffle_classes(labels, seed)
    return np.sort(np.concatenate([by_class[s : s + n] for s, n in zip(starts, drawn, strict=True)]))


def draw_first(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of the images from every class alike, such that a smaller share is part of a larger one.

    Of each class the proportional part is drawn, rounded up.

    Parameters
    ----------
    labels : int64 array, shape (num_images,)
        Classes from 0.
    share : float, above 0 and at most 1
        How much to draw.
    seed : int, at least 0
        The same seed draws the same images on every platform.

    Returns
    -------
    int64 array, increasing
        Positions of the drawn images; at least one of every class that has images.
    """
    by_class, starts = _shuffle_classes(labels, seed)
    # a share such as 0.1 is a little more than a tenth, and must not cost an image
    drawn = np.ceil(np.bincount(labels) * share - 1e-9).astype(np.int64)
    return np.sort(np.concatenate([by_class[s : s + n] for s, n in zip(starts, drawn, strict=True)]))


def order_stratified(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Put images into a random order of which every beginning holds the classes in proportion.

    Parameters
    ----------
    labels : int64 array, shape (num_images,)
        Classes from 0.
    seed : int, at least 0
        The same seed gives the same order on every platform.

    Returns
    -------
    int64 array, shape (num_images,)
        All positions. Of the first ``n`` images each class has its part of ``n`` to within a few images.

    Notes
    -----
    The ``i``-th of the ``m`` images of a class, in random order, stands at ``(i + u) / m`` between 0 and 1,
    with one random ``u`` for each class, so that classes of one size do not come in one order.
    """
    by_class, starts = _shuffle_classes(labels, seed)
    sizes = np.bincount(labels)
    offsets = np.random.PCG64(seed).random_raw(len(sizes)) / 2**64
    ranks = np.arange(len(labels)) - np.repeat(starts, sizes)
    places = (ranks + np.repeat(offsets, sizes)) / np.repeat(sizes, sizes)
    return by_class[np.argsort(places, kind="stable")]


def _share_out(sizes: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Round each class's part so that they add up to the rounded whole: by largest remainders."""
    exact = sizes * share
    drawn: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(drawn.sum())
    drawn[np.argsort(drawn - exact, kind="stable")[:missing]] += 1
    return drawn


def _shuffle_classes(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions class after class, each class in random order, and where each class starts."""
    random_order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    by_class = random_order[np.argsort(labels[random_order], kind="stable")]
    sizes = np.bincount(labels)
    return by_class, np.cumsum(sizes) - sizes
