"""Parquet files that can be used, and those that cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, open_images, prepare, prepare_test

LABELS = [1, 0, 1, 0, 2, 2, 1, 0]
Colours = tuple[NDArray[np.uint8], list[bytes]]
Write = Callable[..., DataSpec]
Encode = Callable[..., bytes]


def test_images_and_labels_come_out_as_they_went_in(write: Write, colours: Colours, tmp_path: Path) -> None:
    images, encoded = colours
    prepared = prepare(write(encoded, LABELS), tmp_path / "cache")
    opened = open_images(prepared)
    np.testing.assert_array_equal(opened.images, images)
    np.testing.assert_array_equal(opened.labels, LABELS)
    assert (prepared.num_images, prepared.image_shape) == (8, (6, 5, 3))
    assert prepared.class_names == opened.class_names == ("0", "1", "2")


def test_large_images_decode_in_threads_in_the_right_order(write: Write, encode: Encode, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 70, 70), dtype=np.uint8)
    spec = write([encode(image) for image in images], np.arange(40) % 2)
    np.testing.assert_array_equal(open_images(prepare(spec, tmp_path)).images[..., 0], images)


def test_files_longer_than_a_batch_are_read_whole(
    write: Write, encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.train.data.parquet.ROWS_AT_ONCE", 3)
    images = np.arange(11 * 16, dtype=np.uint8).reshape(11, 4, 4)
    spec = write([encode(image) for image in images], np.arange(11) % 2)
    np.testing.assert_array_equal(open_images(prepare(spec, tmp_path)).images[..., 0], images)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_binary_columns_are_images_too(kind: pa.DataType, colours: Colours, tmp_path: Path) -> None:
    images, encoded = colours
    table = pa.table({"label": pa.array(LABELS, pa.uint8()), "picture": pa.array(encoded, kind)})
    pq.write_table(table, tmp_path / "train.parquet")
    prepared = prepare(DataSpec(name="parquet", path=str(tmp_path)), tmp_path / "cache")
    np.testing.assert_array_equal(open_images(prepared).images, images)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_become_one_or_three_channels(mode: str, write: Write, encode: Encode, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)).convert(mode)
    expected = np.asarray(image.convert("RGB" if mode in {"P", "RGB"} else "L")).reshape(9, 8, -1)
    opened = open_images(prepare(write([encode(image)] * 4, [0, 1, 0, 1]), tmp_path / "cache"))
    np.testing.assert_array_equal(opened.images[3], expected)


def test_strings_are_numbered_in_sorted_order(write: Write, colours: Colours, tmp_path: Path) -> None:
    names = ["cat", "ape", "cat", "ape", "dog", "dog", "cat", "ape"]
    for labels in (pa.array(names), pa.array(names, pa.large_string()), pa.array(names).dictionary_encode()):
        opened = open_images(prepare(write(colours[1], labels, label="kind"), tmp_path / "cache"))
        assert opened.class_names == ("ape", "cat", "dog")
        np.testing.assert_array_equal(opened.labels, LABELS)


def test_class_names_come_from_the_metadata(write: Write, colours: Colours, tmp_path: Path) -> None:
    plain = write(colours[1], LABELS, label="fine_label", metadata={"fine_names": "ape,cat,dog"})
    assert prepare(plain, tmp_path / "cache").class_names == ("ape", "cat", "dog")
    features = {"info": {"features": {"fine_label": {"names": ["x", "y", "z"], "_type": "ClassLabel"}}}}
    hugging_face = write(colours[1], LABELS, label="fine_label", metadata={"huggingface": json.dumps(features)})
    assert prepare(hugging_face, tmp_path / "cache").class_names == ("x", "y", "z")
    unrelated = write(colours[1], LABELS, label="fine_label", metadata={"huggingface": "[not, json"})
    assert prepare(unrelated, tmp_path / "cache").class_names == ("0", "1", "2")


def test_of_several_label_columns_one_has_to_be_named(colours: Colours, tmp_path: Path) -> None:
    columns = {"img": pa.array(colours[1]), "fine": pa.array(LABELS), "coarse": pa.array([0, 1] * 4)}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    spec = DataSpec(name="parquet", path=str(tmp_path))
    with pytest.raises(DataError, match=r"found 2: fine, coarse; set data\.label_column"):
        prepare(spec, tmp_path / "cache")
    named = spec.model_copy(update={"label_column": "coarse"})
    assert prepare(named, tmp_path / "cache").class_names == ("0", "1")
    pq.write_table(pa.table(columns | {"label": pa.array(LABELS)}), tmp_path / "train.parquet")
    assert prepare(spec, tmp_path / "cache").class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"a column of labels .* is needed, none found; the file's columns are img: struct"),
        ([0.5] * 8, r"a column of labels .* none found; .* label: double"),
        ([1, 0, None, 0, 2, 2, 1, 0], r"column label: every row needs a label, row 2 has none"),
        ([1, 0, 1, 0, -3, 2, 1, 0], r"row 4 has -3 \(1 such rows\)"),
        ([1, 0, 1, 0, 2, 10**12, 1, 0], r"row 5 has 1000000000000"),
        ([1, 0, 1, 0, 2, 1, 1, 0], r"every class needs at least 2 images, .* found 2 \(2\): 1"),
        ([1, 3, 1, 3, 2, 2, 1, 3], r"found 0 \(0\): 0\..* count from 0 without gaps"),
        ([0] * 8, r"at least 2 classes are needed, found 1 in 8 images"),
    ],
)
def test_labels_that_cannot_be_used_are_explained(
    labels: list[int] | None, message: str, write: Write, colours: Colours, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(write(colours[1], labels), tmp_path / "cache")
    assert "train.parquet" in str(caught.value)


def test_a_label_without_a_name_is_explained(write: Write, colours: Colours, tmp_path: Path) -> None:
    spec = write(colours[1], LABELS, metadata={"label_names": "ape,cat"})
    with pytest.raises(DataError, match=r"labels must be 0 to 1, for 2 named classes; row 4 has 2 \(2 such rows\)"):
        prepare(spec, tmp_path / "cache")


def test_images_that_cannot_be_used_are_all_named(
    write: Write, colours: Colours, encode: Encode, tmp_path: Path
) -> None:
    encoded: list[bytes | None] = list(colours[1])
    encoded[1] = encoded[1][:60]  # type: ignore[index]
    encoded[2] = b"no image"
    encoded[3] = None
    encoded[4] = encode(np.zeros((6, 5), np.uint8))
    encoded[5] = encode(np.zeros((7, 5, 3), np.uint8))
    encoded[6] = encode(np.zeros((6, 5, 4), np.uint8))
    with pytest.raises(DataError) as caught:
        prepare(write(encoded, LABELS), tmp_path / "cache")
    where, *rows = str(caught.value).splitlines()
    assert where.startswith(str(tmp_path / "data" / "train.parquet, column img"))
    assert rows[0].startswith("  row 1 (1.png) does not decode")
    assert rows[1].startswith("  row 2 (2.png) does not decode")
    assert rows[2] == "  row 3 is missing (null)"
    assert rows[3] == "  row 4 (4.png) is 5x6 grey, the first is 5x6 RGB"
    assert rows[4] == "  row 5 (5.png) is 5x7 RGB, the first is 5x6 RGB"
    assert rows[5] == "  and 1 more"
    assert rows[6].startswith("Convert or remove these; 3 of 8 images do not decode")
    assert "if data.size is set" in rows[6]


def test_images_that_are_left_out_are_named(write: Write, colours: Colours, tmp_path: Path) -> None:
    encoded = [*colours[1][:5], None, b"no image", None, *colours[1], *colours[1][:4]]
    prepared = prepare(write(encoded, [0, 1] * 10, corrupt=0.2), tmp_path / "cache")
    assert prepared.notes == ("3 of 20 images do not decode and are left out: row 5, row 6 (6.png), row 7",)


def test_a_first_image_that_cannot_be_used_is_named(
    write: Write, colours: Colours, encode: Encode, tmp_path: Path
) -> None:
    transparent = encode(np.zeros((6, 5, 4), np.uint8))
    with pytest.raises(DataError, match=r"row 0 \(0\.png\) has mode RGBA, allowed are grey"):
        prepare(write([transparent, *colours[1][1:]], LABELS), tmp_path / "cache")
    with pytest.raises(DataError, match=r"row 0 is missing \(null\)"):
        prepare(write([None, *colours[1][1:]], LABELS), tmp_path / "cache")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_short_is_explained(share: float, write: Write, colours: Colours, tmp_path: Path) -> None:
    path = Path(str(write(colours[1], LABELS).path), "train.parquet")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"train\.parquet: a whole Parquet file was expected"):
        prepare(DataSpec(name="parquet", path=str(path.parent)), tmp_path / "cache")


def test_a_file_that_is_damaged_inside_is_explained(write: Write, colours: Colours, tmp_path: Path) -> None:
    path = Path(str(write(colours[1], LABELS).path), "train.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 600 + content[604:])
    with pytest.raises(DataError, match=r"train\.parquet"):
        prepare(DataSpec(name="parquet", path=str(path.parent)), tmp_path / "cache")


def test_missing_folders_files_and_rows_are_explained(write: Write, colours: Colours, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"data\.path: .* set data\.path"):
        prepare(DataSpec(name="parquet"), cache)
    with pytest.raises(DataError, match=r"nowhere: a folder with .* there is none"):
        prepare(DataSpec(name="parquet", path=str(tmp_path / "nowhere")), cache)
    spec = write(colours[1], LABELS, split="train-00000")
    with pytest.raises(DataError, match=r"train\.parquet was expected, found train-00000\.parquet"):
        prepare(spec, cache)
    with pytest.raises(DataError, match="found no rows"):
        prepare(write([], pa.array([], pa.int64())), cache)


def test_a_column_that_was_asked_for_must_fit(write: Write, colours: Colours, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"data\.label_column is 'class', name one of .*: img: struct<"):
        prepare(write(colours[1], LABELS, label_column="class"), cache)
    with pytest.raises(DataError, match=r"data\.image_column is 'label' of type int64, but images"):
        prepare(write(colours[1], LABELS, image_column="label"), cache)
    with pytest.raises(DataError, match=r"a column of images .* is needed, none found"):
        prepare(write(None, LABELS), cache)


def test_preparing_does_not_look_at_the_test_split(write: Write, colours: Colours, tmp_path: Path) -> None:
    spec = write(colours[1], LABELS)
    without = prepare(spec, tmp_path / "cache")
    Path(str(spec.path), "test.parquet").mkdir()
    assert prepare(spec, tmp_path / "cache") == without


def test_the_test_split_means_the_same_classes(
    write: Write, colours: Colours, tmp_path: Path, opening: Opening
) -> None:
    cache = tmp_path / "cache"
    train = prepare(write(colours[1], ["b", "a", "b", "a", "c", "c", "b", "a"]), cache)
    spec = write(colours[1][:2], ["c", "b"], split="test")
    test = prepare_test(spec, cache, train, opening)
    assert test.class_names == train.class_names
    np.testing.assert_array_equal(open_images(test, opening).labels, [2, 1])
    with pytest.raises(DataError, match="row 1 has the label 'z', no class of the training split"):
        prepare_test(write(colours[1][:2], ["c", "z"], split="test"), cache, train, opening)


def test_the_test_split_has_images_of_the_same_size(
    write: Write, colours: Colours, encode: Encode, tmp_path: Path, opening: Opening
) -> None:
    train = prepare(write(colours[1], LABELS), tmp_path / "cache")
    spec = write([encode(np.zeros((6, 6, 3), np.uint8))], [0], split="test")
    with pytest.raises(DataError, match=r"\(6, 5, 3\), found \(6, 6, 3\)"):
        prepare_test(spec, tmp_path / "cache", train, opening)
