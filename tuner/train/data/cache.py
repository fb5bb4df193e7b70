"""Decoded images on disk: built once, whole or not there, mapped into every process that reads them."""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.train.data.images import LabelledImages

FORMAT = b"tuner images 1"  # a new number makes every older cache file be built again
HASHED_AT_ONCE = 2**20


def hash_content(path: Path, folder: Path) -> str:
    """Hash a file's content, or recall its hash if the file did not change since.

    Parameters
    ----------
    path : Path
        The file.
    folder : Path
        An existing folder, where a small file remembers the hash with the size and times that it belongs to.

    Returns
    -------
    str
        32 hexadecimal digits, of BLAKE2b.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    try:
        status = path.stat()
        seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
        remembered = folder / f"hash-{name}.json"
        known = _load_json(remembered)
        if known.get("seen") == seen and isinstance(known.get("hash"), str):
            return str(known["hash"])
        hasher = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while chunk := file.read(HASHED_AT_ONCE):
                hasher.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with _explained(folder), _lock(remembered.with_suffix(".lock")), _written_whole(remembered) as file:
        file.write(json.dumps({"seen": seen, "hash": hasher.hexdigest()}).encode())
    return hasher.hexdigest()


def build_once(path: Path, build: Callable[[], LabelledImages]) -> None:
    """Make sure that a cache file is there and whole, building it if not.

    Of several processes one builds and the others wait for it. A folder that cannot be written or is full is
    a DataError, and so is what ``build`` raises.

    Parameters
    ----------
    path : Path
        The cache file, in an existing folder.
    build : function without arguments
        Decodes the images; called at most once.
    """
    if _is_whole(path):
        return
    with _explained(path.parent), _lock(path.with_suffix(".lock")):
        if not _is_whole(path):
            _write_images(path, build())


def map_images(path: Path) -> LabelledImages:
    """Map a cache file into memory, so that all processes of a node share one copy.

    Parameters
    ----------
    path : Path
        A file that ``build_once`` made.

    Returns
    -------
    LabelledImages
        Its arrays may be written to, as torch wants it: a written page becomes this process's own and the
        file stays.

    Raises
    ------
    DataError
        If the file is missing, cut short or none of ours.
    """
    try:
        mapped = np.memmap(path, mode="c")
        batch = _read_batch(mapped)
        pixels, labels = batch.column("image"), batch.column("label")
        shape = (len(batch), *pixels.type.shape)
        start = mapped.ctypes.data  # arrow's own views are read-only, and torch warns about those
        images = np.ndarray(shape, np.uint8, mapped, pixels.storage.values.buffers()[1].address - start)
        targets = np.ndarray(shape[:1], np.int64, mapped, labels.buffers()[1].address - start)
        return LabelledImages(images, targets, tuple(json.loads(batch.schema.metadata[b"class_names"])))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: a whole file of decoded images was expected ({error}); delete it to have it built again"
        ) from error


def _read_batch(mapped: NDArray[np.uint8]) -> Any:
    with pa.ipc.open_file(pa.py_buffer(mapped)) as reader:
        if (reader.schema.metadata or {}).get(b"format") != FORMAT or reader.num_record_batches != 1:
            raise ValueError("not of this version's format")
        return reader.get_batch(0)


def _is_whole(path: Path) -> bool:
    try:
        map_images(path)
    except DataError:
        return False
    return True


def _write_images(path: Path, images: LabelledImages) -> None:
    # pyarrow's own ways from numpy import pandas, which nobody else needs
    num_images, *shape = images.images.shape
    pixels = pa.Array.from_buffers(pa.uint8(), images.images.size, [None, pa.py_buffer(images.images)])
    labels = pa.Array.from_buffers(pa.int64(), num_images, [None, pa.py_buffer(images.labels)])
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), shape), pa.FixedSizeListArray.from_arrays(pixels, math.prod(shape))
    )
    metadata = {b"format": FORMAT, b"class_names": json.dumps(images.class_names).encode()}
    schema = pa.schema([("image", tensors.type), ("label", pa.int64())], metadata=metadata)
    batch = pa.RecordBatch.from_arrays([tensors, labels], schema=schema)
    with _written_whole(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def _load_json(path: Path) -> dict[str, object]:
    """Load a small file of ours; what is missing or damaged is as good as empty."""
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file that appears under its name only when it is complete and on the disk; hold its lock."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time in; the kernel opens the lock when its holder dies."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what can go wrong while writing into an error that says so.

    Raises
    ------
    DataError
        Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cache {folder}: decoded images are kept there, and it cannot be written "
            f"({error.strerror or error}); free space, give permission or choose another folder"
        ) from error
