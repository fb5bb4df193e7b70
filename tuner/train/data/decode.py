"""Encoded images (PNG, JPEG and what else Pillow reads) to one array in a file."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tuner.errors import DataError

THREADED_PIXELS = 64 * 64  # below, Python's own work is most of the time and threads only wait for each other
DECODED_AT_ONCE = 64  # bounds what decoding holds in memory: 48 MiB of 512x512 in colour
SHOWN_FAULTS = 5
WHOLE_BYTES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})  # modes of 8 bits


class EncodedImage(NamedTuple):
    """One image as it is stored: its bytes, or the file that it is in, and what to call it in a message."""

    content: bytes | Path | None
    place: str


class Wanted(NamedTuple):
    """How images shall come out.

    Attributes
    ----------
    size : int or None
        Scale the shorter side to this many pixels and take the middle square.
    corrupt : float, at least 0 and below 1
        Share of the images that may fail to decode and are left out.
    is_any_colour : bool
        Whether grey images and those with transparency or the four colours of print become RGB too, rather
        than being refused.
    """

    size: int | None = None
    corrupt: float = 0.0
    is_any_colour: bool = False


class Decoded(NamedTuple):
    """Images that were decoded.

    Attributes
    ----------
    images : uint8 array, shape (num_kept, height, width, channels), values 0 to 255
        Mapped from the file that they were written to.
    kept : int64 array, shape (num_kept,), increasing
        The positions, in what was given, of those that decode.
    notes : tuple of str
        What was left out.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.int64]
    notes: tuple[str, ...]


class Flaw(NamedTuple):
    """What is wrong with an image, and whether that is because its bytes are no image."""

    text: str
    is_corrupt: bool


def decode_image(content: bytes, wanted: Wanted) -> NDArray[np.uint8] | Flaw:
    """Decode one image.

    Parameters
    ----------
    content : bytes
        A whole image file.
    wanted : Wanted
        Its size and colours.

    Returns
    -------
    uint8 array, shape (height, width, channels), or Flaw
        One channel for a grey image, three for one with colours or a palette. A flaw if the bytes are no
        image, are cut short, or hold neither grey nor RGB of 8 bits.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if wanted.is_any_colour and image.mode in WHOLE_BYTES:
                return _resize(image.convert("RGB"), wanted.size)
            if image.mode in {"1", "L"}:
                return _resize(image.convert("L"), wanted.size)[:, :, None]
            if image.mode == "RGB" or (image.mode == "P" and "transparency" not in image.info):
                return _resize(image.convert("RGB"), wanted.size)
            mode = image.mode
    except UnidentifiedImageError:  # its text names an object in memory
        return Flaw("does not decode (its bytes are of no image format that is known)", is_corrupt=True)
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
        return Flaw(f"does not decode ({error})", is_corrupt=True)
    return Flaw(f"has mode {mode}, allowed are grey (1, L) and RGB (RGB, P without transparency)", is_corrupt=False)


def decode_images(batches: Iterable[Sequence[EncodedImage]], where: str, wanted: Wanted, scratch: BinaryIO) -> Decoded:
    """Decode images of one size, writing each to a file so that memory holds few of them.

    Parameters
    ----------
    batches : iterable of sequences of EncodedImage
        All images in order, at least one.
    where : str
        The file, and the column in it, for the message.
    wanted : Wanted
        How they shall come out.
    scratch : binary file, empty, open for reading and writing
        Gets the pixels.

    Returns
    -------
    Decoded
        The images; the first one that decodes gave the size.

    Raises
    ------
    DataError
        If an image differs from the first in size or channels, or if more do not decode than may, naming them.
    """
    shape: tuple[int, ...] = ()
    kept: list[int] = []
    flaws: list[str] = []
    corrupt: list[tuple[str, str]] = []  # each with its place alone
    num_images = 0
    for encoded, image in _decode_all(batches, wanted):
        num_images += 1
        if isinstance(image, Flaw):
            text = f"{encoded.place} {image.text}"
            if image.is_corrupt:
                corrupt.append((encoded.place, text))
            else:
                flaws.append(text)
            continue
        shape = shape or image.shape
        if image.shape != shape:
            found = _describe_shape(image.shape)
            flaws.append(f"{encoded.place} is {found}, the first is {_describe_shape(shape)}")
        elif not flaws:
            scratch.write(image.data)
            kept.append(num_images - 1)
    if len(corrupt) > wanted.corrupt * num_images:
        flaws = [text for _, text in corrupt] + flaws
    if flaws:
        raise DataError(_refuse(flaws, where, len(corrupt), num_images, wanted))
    scratch.flush()
    images = np.memmap(scratch, np.uint8, "r", shape=(len(kept), *shape))
    return Decoded(images, np.array(kept, dtype=np.int64), _note([place for place, _ in corrupt], num_images))


def _decode_all(
    batches: Iterable[Sequence[EncodedImage]], wanted: Wanted
) -> Iterator[tuple[EncodedImage, NDArray[np.uint8] | Flaw]]:
    """Decode images in order, in threads where that is faster."""
    is_threaded = wanted.size is not None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in batches:
            for start in range(0, len(batch), DECODED_AT_ONCE):
                few = batch[start : start + DECODED_AT_ONCE]
                decode = partial(_decode, wanted=wanted)
                for encoded, image in zip(few, (pool.map if is_threaded else map)(decode, few), strict=True):
                    is_threaded |= not isinstance(image, Flaw) and image[..., 0].size >= THREADED_PIXELS
                    yield encoded, image


def _decode(encoded: EncodedImage, wanted: Wanted) -> NDArray[np.uint8] | Flaw:
    content = encoded.content
    if content is None:
        return Flaw("is missing (null)", is_corrupt=True)
    if isinstance(content, Path):
        try:
            content = content.read_bytes()
        except OSError as error:
            return Flaw(f"cannot be read ({error.strerror})", is_corrupt=False)
    return decode_image(content, wanted)


def _resize(image: Image.Image, size: int | None) -> NDArray[np.uint8]:
    """Take the middle square, scaled: the same as scaling first, for less work."""
    if size is not None:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.array(image)


def _note(names: list[str], num_images: int) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:SHOWN_FAULTS]) + (", ..." if len(names) > SHOWN_FAULTS else "")
    verb = ("does", "is") if len(names) == 1 else ("do", "are")
    return (f"{len(names):,} of {num_images:,} images {verb[0]} not decode and {verb[1]} left out: {shown}",)


def _refuse(flaws: list[str], where: str, num_corrupt: int, num_images: int, wanted: Wanted) -> str:
    shown = "\n  ".join(flaws[:SHOWN_FAULTS])
    more = f"\n  and {len(flaws) - SHOWN_FAULTS} more" if len(flaws) > SHOWN_FAULTS else ""
    advice = "Convert or remove these"
    if num_corrupt > wanted.corrupt * num_images:
        share = num_corrupt / num_images
        advice += (
            f"; {num_corrupt:,} of {num_images:,} images do not decode, a share of {share:.3g}, and data.corrupt "
            f"allows {wanted.corrupt:g}: they are left out if it is set to that share or more"
        )
    if any(", the first is " in flaw for flaw in flaws) and wanted.size is None:
        advice += "; images that differ in size are scaled to one if data.size is set"
    first = "the channels" if wanted.size else "the size and channels"
    return f"{where}: every image must decode and have {first} of the first; found\n  {shown}{more}\n{advice}"


def _describe_shape(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
