"""Images in Parquet files: one column of encoded images, one of labels."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.fs import FileType

from tuner.errors import DataError
from tuner.train.data.decode import EncodedImage, Wanted, decode_images
from tuner.train.data.files import LocalFile, StoredFile, name_some
from tuner.train.data.images import LabelledImages, check_class_sizes, find_superclasses
from tuner.train.data.labels import find_class_names, number_labels
from tuner.train.data.opening import Opening
from tuner.train.data.stores import explained, find_file, list_folder, open_store

ROWS_AT_ONCE = 1024


class Columns(NamedTuple):
    """Which columns of a file are used."""

    image: str
    label: str


def find_split(address: str, opening: Opening | None = None) -> tuple[StoredFile, ...]:
    """Find the files of a split in a data set's folder.

    That is ``train.parquet``; or several, ``train-00000-of-00005.parquet`` and so on; or what a folder
    ``train`` has of names that end in ``.parquet``.

    Parameters
    ----------
    address : str
        The folder: a path, or an address as ``open_store`` takes it.
    opening : Opening or None
        For the test split; none for the training split.

    Returns
    -------
    tuple of StoredFile
        In the order of their names.

    Raises
    ------
    DataError
        If there is no such folder, no such file in it, a part is missing, or it is not clear which are meant.
    """
    return find_files(*open_store(address), address, opening)


def find_files(system: Any, folder: str, address: str, opening: Opening | None = None) -> tuple[StoredFile, ...]:
    """Find the files of a split in a folder of a ``pyarrow.fs`` file system, as ``find_split`` does.

    Parameters
    ----------
    system : pyarrow.fs.FileSystem
        Where the folder is.
    folder : str
        Which it is.
    address : str
        What the user calls it.
    opening : Opening or None
        For the test split; none for the training split.

    Raises
    ------
    DataError
        As ``find_split``.
    """
    split = "test" if Opening.is_given(opening) else "train"
    found = list_folder(system, folder, address)
    if not found:
        with explained(address):
            is_there = system.get_file_info(folder).type == FileType.Directory
        if not is_there:
            raise DataError(
                f"data.path {address}: a folder with {split}.parquet was expected, there is none; correct it"
            )
    single = [f"{split}.parquet"] if found.get(f"{split}.parquet") is False else []
    parts = [name for name, is_folder in found.items() if not is_folder and _match_part(name, split)]
    inner = list_folder(system, f"{folder}/{split}", address) if found.get(split) else {}
    inside = [f"{split}/{name}" for name, is_folder in inner.items() if name.endswith(".parquet") and not is_folder]
    kinds = [names for names in (single, parts, inside) if names]
    if not kinds:
        raise DataError(
            f"data.path {address}: {split}.parquet was expected, found {name_some(list(found))}; rename the file, or "
            f"several to {split}-00000-of-00002.parquet and so on, or move them into a folder {split}"
        )
    if len(kinds) > 1:
        both = " and ".join(names[0] for names in kinds)
        raise DataError(f"data.path {address}: {both} are there, and it is not clear which are meant; keep one kind")
    if parts:
        _check_parts(parts, address, split)
    return tuple(find_file(system, folder, name, address) for name in kinds[0])


def _match_part(name: str, split: str) -> re.Match[str] | None:
    return re.fullmatch(rf"{split}-([0-9]+)-of-([0-9]+)(-[0-9a-f]+)?\.parquet", name)


def _check_parts(names: list[str], address: str, split: str) -> None:
    """Refuse some of several files, or those of two writings.

    Raises
    ------
    DataError
        If a part is missing or there twice.
    """
    numbers = [(int(match[1]), int(match[2])) for match in (_match_part(name, split) for name in names) if match]
    num_parts = numbers[0][1]
    if sorted(numbers) != [(i, num_parts) for i in range(num_parts)]:
        raise DataError(
            f"data.path {address}: {num_parts} files were expected, {split}-00000-of-{num_parts:05} and so on, found "
            f"{name_some(names)}; copy those that are missing and remove those that do not belong"
        )


def find_columns(files: Sequence[StoredFile], image_column: str | None, label_column: str | None) -> Columns:
    """Find the columns of the images and of the labels.

    An image column holds ``binary``, or ``struct<bytes: binary, ...>``; a label column integers, strings or a
    dictionary of strings. Where several could be the label, one that is called ``label`` is it. A file that
    is not whole and a column that is missing, of another type or ambiguous are a DataError.

    Parameters
    ----------
    files : sequence of StoredFile
        Parquet files; the first one tells.
    image_column, label_column : str or None
        The names, where the user gave them.
    """
    where, schema = files[0].address, _open(files[0]).schema_arrow
    return Columns(_pick(where, schema, IMAGE, image_column), _pick(where, schema, LABEL, label_column))


def load_parquet(
    files: Sequence[StoredFile],
    columns: Columns,
    wanted: Wanted,
    scratch: BinaryIO,
    class_names: tuple[str, ...] | None = None,
    super_column: str | None = None,
    opening: Opening | None = None,
) -> LabelledImages:
    """Load and decode all images of Parquet files.

    Parameters
    ----------
    files : sequence of StoredFile
        The files, one after the other.
    columns : Columns
        What ``find_columns`` found in them.
    wanted : Wanted
        How the images shall come out.
    scratch : binary file
        Gets the pixels, as for ``decode_images``.
    class_names : tuple of str or None
        What the labels mean, for a test split; None for a training split, which has to tell: integers count
        from 0 and are named by the schema's metadata or else by their digits; strings are numbered in sorted
        order.
    super_column : str or None
        The column of the superclasses, for a training split that has one.
    opening : Opening or None
        For the test split; none for the training split.

    Raises
    ------
    DataError
        If a file is cut short or empty; a label is null, negative or without a name; a class of a training
        split has fewer than two images; or an image does not decode or has not the size and channels of the
        first.
    """
    Opening.is_given(opening, *(file.name for file in files))
    opened = [_open(file) for file in files]
    what = files[0].address if len(files) == 1 else f"{files[0].address} and {len(files) - 1} more"
    if sum(file.metadata.num_rows for file in opened) == 0:
        raise DataError(f"{what}: images were expected, found no rows; write the file again")
    where = f"{what}, column {columns.label}"
    labels, names = _load_labels(files, opened, columns.label, class_names)
    superclasses = None
    if super_column is not None:
        superclasses = find_superclasses(
            labels, _load_labels(files, opened, super_column, None)[0], names, f"{what}, column {super_column}"
        )
    if class_names is None:
        check_class_sizes(labels, names, where)
    batches = (
        batch
        for file, one in zip(files, opened, strict=True)
        for batch in _read_encoded(one, columns.image, file, "" if len(files) == 1 else f"{file.name}, ")
    )
    decoded = decode_images(batches, f"{what}, column {columns.image}", wanted, scratch)
    labels = labels[decoded.kept]
    if class_names is None:
        check_class_sizes(labels, names, where)
    return LabelledImages(decoded.images, labels, names, superclasses, decoded.notes)


def _load_labels(
    files: Sequence[StoredFile], opened: Sequence[Any], column: str, class_names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Load a column of labels from all files.

    Raises
    ------
    DataError
        If the column is not the same in all, cannot be read, or holds what is no label.
    """
    schema = opened[0].schema_arrow
    where = f"{files[0].address}, column {column}" + ("" if len(files) == 1 else ", rows counted through all files")
    chunks = []
    for file, one in zip(files, opened, strict=True):
        if one.schema_arrow != schema:
            raise DataError(
                f"{file.address}: must have the columns of {files[0].name}, {_list_columns(schema)}, found "
                f"{_list_columns(one.schema_arrow)}; write it again or remove it"
            )
        with _whole(file):
            chunks += one.read(columns=[column])[column].chunks
    joined = pa.chunked_array(chunks, schema.field(column).type)
    if class_names is None and pa.types.is_integer(joined.type):
        class_names = find_class_names(schema, column)
    return number_labels(joined.combine_chunks(), class_names, where)


@contextmanager
def _whole(file: StoredFile) -> Iterator[None]:
    """Say which file it is that is not whole.

    Raises
    ------
    DataError
        Instead of what pyarrow raises.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.address}: cannot be read, so it is cut short or damaged ({error}); copy it again"
        ) from error


def _open(file: StoredFile) -> Any:
    try:
        is_local = isinstance(file, LocalFile)
        return pq.ParquetFile(file.address if is_local else file.open(), memory_map=is_local)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.address}: a whole Parquet file was expected, this one is cut short, damaged or no Parquet "
            f"({error}); "
            "copy it again"
        ) from error


def _list_columns(schema: Any) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_image(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_string(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_label(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return bool(pa.types.is_integer(kind) or _is_string(kind))


class _Role(NamedTuple):
    """What a column is used for."""

    key: str
    fits: Callable[[Any], bool]
    what: str


IMAGE = _Role("image_column", _is_image, "images (binary or struct<bytes: binary>)")
LABEL = _Role("label_column", _is_label, "labels (integers, strings or a dictionary of strings)")


def _pick(path: str, schema: Any, role: _Role, asked: str | None) -> str:
    """Choose one column of a schema.

    Raises
    ------
    DataError
        If that cannot be done.
    """
    columns = _list_columns(schema)
    fitting = [str(field.name) for field in schema if role.fits(field.type)]
    if asked is not None:
        if schema.names.count(asked) != 1:
            raise DataError(f"{path}: data.{role.key} is {asked!r}, name one of the file's columns: {columns}")
        if asked not in fitting:
            raise DataError(
                f"{path}: data.{role.key} is {asked!r} of type {schema.field(asked).type}, but {role.what} "
                "are needed; "
                f"name another of the file's columns: {columns}"
            )
        return asked
    if role is LABEL and fitting.count("label") == 1:
        return "label"
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(f"{path}: a column of {role.what} is needed, none found; the file's columns are {columns}")
    raise DataError(
        f"{path}: one column of {role.what} is needed, found {len(fitting)}: {', '.join(fitting)}; "
        f"set data.{role.key} to the one meant"
    )


def _read_encoded(opened: Any, column: str, file: StoredFile, prefix: str) -> Iterator[list[EncodedImage]]:
    """Read the encoded images, some rows at a time."""
    start = 0
    batches = opened.iter_batches(ROWS_AT_ONCE, columns=[column])
    while True:
        with _whole(file):
            batch = next(batches, None)
        if batch is None:
            return
        images, names = batch.column(0), [None] * len(batch)
        if pa.types.is_struct(images.type):
            if images.type.get_field_index("path") >= 0:
                names = pc.struct_field(images, "path").to_pylist()
            images = pc.struct_field(images, "bytes")
        places = [f"{prefix}row {row}" + (f" ({name})" if name else "") for row, name in enumerate(names, start)]
        yield [EncodedImage(*image) for image in zip(images.to_pylist(), places, strict=True)]
        start += len(batch)
