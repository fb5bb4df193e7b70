"""A column of labels to class numbers and class names."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tuner.errors import DataError


def find_class_names(schema: Any, label_column: str) -> tuple[str, ...] | None:
    """Find the names of the classes in a schema's metadata.

    Parameters
    ----------
    schema : pyarrow.Schema
        The schema of the file.
    label_column : str
        The column. For ``fine_label`` the metadata may hold ``fine_names``, comma separated, or Hugging
        Face's description of a ``ClassLabel``.

    Returns
    -------
    tuple of str, or None
        The names in the order of the labels, if they are there.
    """
    metadata = schema.metadata or {}
    plain = metadata.get(f"{label_column.removesuffix('_label')}_names".encode())
    if plain is not None:
        return tuple(plain.decode().split(","))
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def number_labels(
    column: Any, class_names: tuple[str, ...] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn a column into labels from 0 and the names of the classes.

    Parameters
    ----------
    column : pyarrow.Array
        Integers, strings, or a dictionary of strings.
    class_names : tuple of str or None
        The names of the classes where they are known. Otherwise integers are named by their digits and
        strings, which are names, are numbered in sorted order.
    where : str
        The file, and the column in it, for the message.

    Returns
    -------
    labels : int64 array, shape (num_images,)
        Each from 0 to ``num_classes - 1``.
    class_names : tuple of str, length num_classes
        What each label means.

    Raises
    ------
    DataError
        If a label is null, negative, no class number at all, or of no known class.
    """
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise DataError(f"{where}: every row needs a label, row {row} has none (null); label or remove it")
    if pa.types.is_integer(column.type):
        start = column.offset * column.type.bit_width // 8  # pyarrow's own way to numpy imports pandas
        counted = np.frombuffer(column.buffers()[1], str(column.type), len(column), start)
        labels = check_numbers(counted, class_names, where)
        return labels, class_names or tuple(str(label) for label in range(int(labels.max()) + 1))
    values = column.to_pylist()
    class_names = class_names or tuple(sorted(set(values)))
    numbers = {name: label for label, name in enumerate(class_names)}
    unknown = next((row for row, value in enumerate(values) if value not in numbers), None)
    if unknown is not None:
        raise DataError(
            f"{where}: row {unknown} has the label {values[unknown]!r}, no class of the training split; "
            "correct or remove it"
        )
    return np.array([numbers[value] for value in values], dtype=np.int64), class_names


def check_numbers(
    labels: NDArray[np.integer[Any]], class_names: tuple[str, ...] | None, where: str
) -> NDArray[np.int64]:
    """Refuse what cannot be a class number, such as an id, before memory is taken for that many classes.

    Parameters
    ----------
    labels : integer array, shape (num_images,)
        As they stand in a file.
    class_names : tuple of str or None
        The names of the classes where they are known.
    where : str
        The file, and the column in it, for the message.

    Returns
    -------
    int64 array, shape (num_images,)
        The same labels.

    Raises
    ------
    DataError
        If there is such a label.
    """
    limit = len(class_names) if class_names else len(labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if wrong.size:
        allowed = f"0 to {limit - 1}, for {limit} named classes" if class_names else "0 to the number of classes - 1"
        raise DataError(
            f"{where}: labels must be {allowed}; row {wrong[0]} has {labels[wrong[0]]} ({wrong.size} such "
            "rows). "
            "Number the classes from 0"
        )
    return labels.astype(np.int64)
