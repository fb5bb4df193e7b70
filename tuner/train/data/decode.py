"""Encoded images (PNG, JPEG and what else Pillow reads) to one array."""

import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuner.errors import DataError

THREADED_PIXELS = 64 * 64  # below, Python's own work is most of the time and threads only wait for each other
SHOWN_FAULTS = 5


class EncodedImage(NamedTuple):
    """One image as it is stored."""

    row: int
    content: bytes | None
    name: str | None


def decode_image(content: bytes) -> NDArray[np.uint8]:
    """Decode one image.

    Parameters
    ----------
    content : bytes
        A whole image file.

    Returns
    -------
    uint8 array, shape (height, width, channels)
        One channel for a grey image, three for one with colours or a palette.

    Raises
    ------
    ValueError
        If the bytes are no image, are cut short, or hold neither grey nor RGB of 8 bits.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode in {"1", "L"}:
                return np.asarray(image.convert("L"))[:, :, None]
            if image.mode == "RGB" or (image.mode == "P" and "transparency" not in image.info):
                return np.asarray(image.convert("RGB"))
            mode = image.mode
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
        raise ValueError(f"does not decode ({error})") from error
    raise ValueError(f"has mode {mode}, allowed are grey (1, L) and RGB (RGB, P without transparency)")


def decode_images(batches: Iterable[Sequence[EncodedImage]], num_images: int, where: str) -> NDArray[np.uint8]:
    """Decode images of one size.

    Parameters
    ----------
    batches : iterable of sequences of EncodedImage
        All images in order of their rows.
    num_images : int, at least 1
        How many there are.
    where : str
        The file, and the column in it, for the message.

    Returns
    -------
    uint8 array, shape (num_images, height, width, channels)
        The decoded images; the first one gave the size.

    Raises
    ------
    DataError
        If an image is missing, does not decode or differs from the first in size or channels, naming the
        rows; or if the decoded images do not fit into memory.
    """
    images: NDArray[np.uint8] | None = None
    faults: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in batches:
            if images is None:
                images = _allocate(batch[0], num_images, where)
                apply = pool.map if images[0, ..., 0].size >= THREADED_PIXELS else map
            faults += [fault for fault in apply(partial(_decode_into, images), batch) if fault]
    assert images is not None
    if faults:
        shown = "\n  ".join(faults[:SHOWN_FAULTS])
        more = f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise DataError(
            f"{where}: every image must decode and have the size and channels of the first; found\n  "
            f"{shown}{more}\nConvert or remove these rows"
        )
    return images


def _allocate(first: EncodedImage, num_images: int, where: str) -> NDArray[np.uint8]:
    try:
        shape = decode_image(first.content or b"").shape
    except ValueError as error:
        raise DataError(f"{where}: {_describe(first)} {error}; replace or remove this row") from error
    try:
        return np.empty((num_images, *shape), dtype=np.uint8)
    except MemoryError as error:
        size = num_images * int(np.prod(shape)) / 2**30
        raise DataError(
            f"{where}: {num_images} images of {_describe_shape(shape)} take {size:.1f} GiB of memory to "
            "decode, which this machine does not have; make the images smaller or take fewer"
        ) from error


def _decode_into(images: NDArray[np.uint8], encoded: EncodedImage) -> str | None:
    """Decode one image to its row and return what is wrong with it, if anything."""
    if encoded.content is None:
        return f"{_describe(encoded)} is missing (null)"
    try:
        image = decode_image(encoded.content)
    except ValueError as error:
        return f"{_describe(encoded)} {error}"
    if image.shape != images.shape[1:]:
        first = _describe_shape(images.shape[1:])
        return f"{_describe(encoded)} is {_describe_shape(image.shape)}, the first is {first}"
    images[encoded.row] = image
    return None


def _describe(encoded: EncodedImage) -> str:
    return f"row {encoded.row}" + (f" ({encoded.name})" if encoded.name else "")


def _describe_shape(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
