"""Decoded images on disk: built once, whole or not there, mapped into every process that reads them."""

import fcntl
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.train.data.files import StoredFile
from tuner.train.data.images import LabelledImages
from tuner.train.data.opening import Opening

FORMAT = b"tuner images 3"  # a new number makes every older cache file be built again
HASHED_AT_ONCE = 2**20


def hash_content(files: Sequence[StoredFile], folder: Path) -> str:
    """Hash the content and the names of files, or recall the hash if none of them changed since.

    Parameters
    ----------
    files : sequence of StoredFile
        The files, in an order that does not depend on where they are.
    folder : Path
        An existing folder, where a small file remembers the hash with the sizes and times that it belongs to.

    Returns
    -------
    str
        32 hexadecimal digits, of BLAKE2b.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    addresses, stamps = (hashlib.blake2b(digest_size=16) for _ in range(2))
    for file in files:
        with _readable(file):
            stamps.update(json.dumps([file.name, *file.read_stamp()]).encode())
        path = file.address if "://" in file.address else os.path.abspath(file.address)  # noqa: PTH100, a million files
        addresses.update(os.fsencode(path) + b"\0")
    remembered = folder / f"hash-{addresses.hexdigest()}.json"
    known = _load_json(remembered)
    if known.get("seen") == stamps.hexdigest() and isinstance(known.get("hash"), str):
        return str(known["hash"])
    hasher = hashlib.blake2b(digest_size=16)
    for file in files:
        content = hashlib.blake2b(digest_size=16)
        with _readable(file), file.open() as opened:
            while chunk := opened.read(HASHED_AT_ONCE):
                content.update(chunk)
        hasher.update(json.dumps([file.name, content.hexdigest()]).encode())
    with _explained(folder), locked(remembered.with_suffix(".lock")), _written_whole(remembered) as written:
        written.write(json.dumps({"seen": stamps.hexdigest(), "hash": hasher.hexdigest()}).encode())
    return hasher.hexdigest()


@contextmanager
def _readable(file: StoredFile) -> Iterator[None]:
    """Say which file it is that cannot be read.

    Raises
    ------
    DataError
        Instead of an OSError.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file.address}: cannot be read ({reason})") from error


def build_once(path: Path, build: Callable[[BinaryIO], LabelledImages], opening: Opening | None = None) -> None:
    """Make sure that a cache file is there and whole, building it if not.

    Of several processes one builds and the others wait for it. A folder that cannot be written or is full is
    a DataError, and so is what ``build`` raises.

    Parameters
    ----------
    path : Path
        The cache file, in an existing folder.
    build : function of an empty file, open for reading and writing
        Decodes the images; called at most once. What does not fit into memory it can write to the file, which
        lies beside the cache file, has no name and is gone afterwards, and return it mapped.
    opening : Opening or None
        For the test split, whose cache file is sealed too; none for the training split.
    """
    if _is_whole(path):
        return
    with _explained(path.parent), locked(path.with_suffix(".lock")):
        if not _is_whole(path):
            with tempfile.TemporaryFile(dir=path.parent) as scratch:
                _write_images(path, build(scratch), is_test=Opening.is_given(opening))


def map_images(path: Path, opening: Opening | None = None) -> LabelledImages:
    """Map a cache file into memory, so that all processes of a node share one copy.

    Parameters
    ----------
    path : Path
        A file that ``build_once`` made.
    opening : Opening or None
        For a test split's; without it, a SealedSplitError.

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
    images, is_test = _map(path)
    if is_test:
        Opening.check(opening)
    return images


def _map(path: Path) -> tuple[LabelledImages, bool]:
    """Map a cache file, and tell whether it is a test split's.

    Raises
    ------
    DataError
        As ``map_images``.
    """
    try:
        mapped = np.memmap(path, mode="c")
        batch = _read_batch(mapped)
        pixels, labels = batch.column("image"), batch.column("label")
        shape = (len(batch), *pixels.type.shape)
        start = mapped.ctypes.data  # arrow's own views are read-only, and torch warns about those
        images = np.ndarray(shape, np.uint8, mapped, pixels.storage.values.buffers()[1].address - start)
        targets = np.ndarray(shape[:1], np.int64, mapped, labels.buffers()[1].address - start)
        told = json.loads(batch.schema.metadata[b"told"])
        superclasses = None if told["superclasses"] is None else np.array(told["superclasses"], dtype=np.int64)
        found = LabelledImages(images, targets, tuple(told["class_names"]), superclasses, tuple(told["notes"]))
        return found, bool(told["is_test"])
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
        _map(path)
    except DataError:
        return False
    return True


def _write_images(path: Path, images: LabelledImages, *, is_test: bool) -> None:
    # pyarrow's own ways from numpy import pandas, which nobody else needs
    num_images, *shape = images.images.shape
    pixels = pa.Array.from_buffers(pa.uint8(), images.images.size, [None, pa.py_buffer(images.images)])
    labels = pa.Array.from_buffers(pa.int64(), num_images, [None, pa.py_buffer(images.labels)])
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), shape), pa.FixedSizeListArray.from_arrays(pixels, math.prod(shape))
    )
    superclasses = None if images.superclasses is None else images.superclasses.tolist()
    told = {
        "class_names": images.class_names,
        "superclasses": superclasses,
        "notes": images.notes,
        "is_test": is_test,
    }
    metadata = {b"format": FORMAT, b"told": json.dumps(told).encode()}
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
def locked(path: Path) -> Iterator[None]:
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
