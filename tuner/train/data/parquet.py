"""Images in a Parquet file: one column of encoded images, one of labels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tuner.errors import DataError
from tuner.train.data.decode import EncodedImage, decode_images
from tuner.train.data.images import LabelledImages, check_class_sizes
from tuner.train.data.labels import find_class_names, number_labels

ROWS_AT_ONCE = 1024


class Columns(NamedTuple):
    """Which columns of a file are used."""

    image: str
    label: str


def find_split(folder: Path, split: str) -> Path:
    """Find the file of a split in a data set's folder.

    Raises
    ------
    DataError
        If there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise DataError(f"data.path {folder}: a folder with train.parquet was expected, there is none; correct it")
    path = folder / f"{split}.parquet"
    if not path.is_file():
        found = sorted(entry.name for entry in folder.iterdir())
        listed = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
        raise DataError(
            f"data.path {folder}: {path.name} was expected, found {listed or 'nothing'}; "
            "rename the file, or join several into one"
        )
    return path


def find_columns(path: Path, image_column: str | None, label_column: str | None) -> Columns:
    """Find the columns of the images and of the labels.

    An image column holds ``binary``, or ``struct<bytes: binary, ...>``; a label column integers, strings or a
    dictionary of strings. Where several could be the label, one that is called ``label`` is it. A file that
    is not whole and a column that is missing, of another type or ambiguous are a DataError.

    Parameters
    ----------
    path : Path
        A Parquet file.
    image_column, label_column : str or None
        The names, where the user gave them.
    """
    schema = _open(path).schema_arrow
    return Columns(_pick(path, schema, IMAGE, image_column), _pick(path, schema, LABEL, label_column))


def load_parquet(path: Path, columns: Columns, class_names: tuple[str, ...] | None = None) -> LabelledImages:
    """Load and decode all images of a Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    columns : Columns
        What ``find_columns`` found in it.
    class_names : tuple of str or None
        What the labels mean, for a test split; None for a training split, which has to tell: integers count
        from 0 and are named by the schema's metadata or else by their digits; strings are numbered in sorted
        order.

    Raises
    ------
    DataError
        If the file is cut short or empty; a label is null, negative or without a name; a class of a training
        split has fewer than two images; or an image does not decode or has not the size and channels of the
        first.
    """
    file = _open(path)
    num_images = file.metadata.num_rows
    if num_images == 0:
        raise DataError(f"{path}: images were expected, found no rows; write the file again")
    where = f"{path}, column {columns.label}"
    try:
        column = file.read(columns=[columns.label])[columns.label].combine_chunks()
        known = class_names
        if known is None and pa.types.is_integer(column.type):
            known = find_class_names(file.schema_arrow, columns.label)
        labels, names = number_labels(column, known, where)
        if class_names is None:
            check_class_sizes(labels, names, where)
        images = decode_images(_read_encoded(file, columns.image), num_images, f"{path}, column {columns.image}")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read, so it is cut short or damaged ({error}); copy it again") from error
    return LabelledImages(images, labels, names)


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: a whole Parquet file was expected, this one is cut short, damaged or no Parquet "
            f"({error}); "
            "copy it again"
        ) from error


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


def _pick(path: Path, schema: Any, role: _Role, asked: str | None) -> str:
    """Choose one column of a schema.

    Raises
    ------
    DataError
        If that cannot be done.
    """
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
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


def _read_encoded(file: Any, column: str) -> Iterator[list[EncodedImage]]:
    """Read the encoded images, some rows at a time."""
    start = 0
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
        images, names = batch.column(0), [None] * len(batch)
        if pa.types.is_struct(images.type):
            if images.type.get_field_index("path") >= 0:
                names = pc.struct_field(images, "path").to_pylist()
            images = pc.struct_field(images, "bytes")
        rows = range(start, start + len(batch))
        yield [EncodedImage(*image) for image in zip(rows, images.to_pylist(), names, strict=True)]
        start += len(batch)
