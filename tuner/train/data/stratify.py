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
    exact = sizes * share
    drawn = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(drawn.sum())
    drawn[np.argsort(drawn - exact, kind="stable")[:missing]] += 1
    drawn = drawn.clip(1, sizes - 1)

    random_order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    by_class = random_order[np.argsort(labels[random_order], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    return np.sort(np.concatenate([by_class[s : s + n] for s, n in zip(starts, drawn, strict=True)]))
