"""Parquet in several files, and in object stores."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pyarrow import fs

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, open_images, prepare, prepare_test
from tuner.train.data.cache import build_once, hash_content, map_images
from tuner.train.data.decode import Wanted
from tuner.train.data.files import RemoteFile
from tuner.train.data.parquet import find_columns, find_files, load_parquet

LABELS = [1, 0, 1, 0, 2, 2, 1, 0]
Colours = tuple[NDArray[np.uint8], list[bytes]]
Write = Callable[..., DataSpec]
SHARDS = [f"train-0000{i}-of-00002" for i in range(2)]


def write_shards(write: Write, encoded: list[bytes], names: list[str]) -> DataSpec:
    for i, name in enumerate(names):
        spec = write(encoded[4 * i : 4 * i + 4], LABELS[4 * i : 4 * i + 4], split=name)
    return spec


def check(spec: DataSpec, images: NDArray[np.uint8], cache: Path) -> None:
    opened = open_images(prepare(spec, cache))
    np.testing.assert_array_equal(opened.images, images)
    np.testing.assert_array_equal(opened.labels, LABELS)


def test_several_files_are_read_one_after_the_other(write: Write, colours: Colours, tmp_path: Path) -> None:
    check(write_shards(write, colours[1], SHARDS), colours[0], tmp_path / "cache")


def test_a_folder_of_files_is_read_in_order(write: Write, colours: Colours, tmp_path: Path, opening: Opening) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "test").mkdir()
    spec = write_shards(write, colours[1], ["train/b", "train/c"])
    (tmp_path / "data" / "train" / "a.txt").touch()
    check(spec, colours[0], tmp_path / "cache")
    write(colours[1][:2], [0, 1], split="test/only")
    test = prepare_test(spec, tmp_path / "cache", prepare(spec, tmp_path / "cache"), opening)
    assert test.num_images == 2


def test_dictionaries_that_differ_from_file_to_file_are_joined(write: Write, colours: Colours, tmp_path: Path) -> None:
    for name, labels in zip(SHARDS, (["b", "a", "b", "a"], ["c", "c", "b", "a"]), strict=True):
        spec = write(colours[1][:4], pa.array(labels).dictionary_encode(), split=name)
    opened = open_images(prepare(spec, tmp_path / "cache"))
    assert opened.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(opened.labels, LABELS)


def test_a_fault_says_in_which_file_it_is(write: Write, colours: Colours, tmp_path: Path) -> None:
    encoded = [*colours[1][:5], b"no image", *colours[1][6:]]
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet, row 1 \(1\.png\) does not decode"):
        prepare(write_shards(write, encoded, SHARDS), tmp_path / "cache")
    spec = write(colours[1][:4], ["a", "b", "a", "b"], split=SHARDS[1])
    with pytest.raises(DataError, match=r"00001-of-00002\.parquet: must have the columns of train-00000-of-00002"):
        prepare(spec, tmp_path / "cache")


def test_missing_and_doubtful_files_are_explained(write: Write, colours: Colours, tmp_path: Path) -> None:
    spec = write_shards(write, colours[1], ["train-00000-of-00003", "train-00002-of-00003"])
    with pytest.raises(DataError, match=r"3 files were expected, .* found train-00000-of-00003\.parquet, train-00002"):
        prepare(spec, tmp_path / "cache")
    write(colours[1], LABELS)
    with pytest.raises(DataError, match=r"train\.parquet and train-00000-of-00003\.parquet are there"):
        prepare(spec, tmp_path / "cache")


def test_images_are_scaled_and_left_out_here_too(write: Write, colours: Colours, tmp_path: Path) -> None:
    encoded = [*colours[1][:5], b"no image", *colours[1][6:]]
    spec = write(encoded, [1, 0, 1, 0, 0, 1, 1, 0], size=16, corrupt=0.2)
    prepared = prepare(spec, tmp_path / "cache")
    assert prepared.image_shape == (16, 16, 3)
    assert prepared.notes == ("1 of 8 images does not decode and is left out: row 5 (5.png)",)
    assert open_images(prepared).labels.tolist() == [1, 0, 1, 0, 0, 1, 0]


def test_an_address_of_a_file_is_its_path(write: Write, colours: Colours, tmp_path: Path) -> None:
    spec = write(colours[1], LABELS)
    address = spec.model_copy(update={"path": Path(str(spec.path)).as_uri()})
    check(address, colours[0], tmp_path / "cache")
    assert prepare(address, tmp_path / "cache") == prepare(spec, tmp_path / "cache")


def test_files_of_another_file_system_are_read_and_known_by_content(
    write: Write, colours: Colours, tmp_path: Path
) -> None:
    write_shards(write, colours[1], SHARDS)
    system = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    files = find_files(system, "data", "s3://bucket/data")
    assert all(isinstance(file, RemoteFile) for file in files)
    assert [file.address for file in files] == [f"s3://bucket/data/{name}.parquet" for name in SHARDS]
    columns = find_columns(files, None, None)
    path = tmp_path / "images.arrow"
    build_once(path, lambda scratch: load_parquet(files, columns, Wanted(), scratch))
    np.testing.assert_array_equal(map_images(path).images, colours[0])
    here = find_files(fs.LocalFileSystem(), str(tmp_path / "data"), "data")
    first = hash_content(files, tmp_path)
    assert first == hash_content(here, tmp_path) == hash_content(files, tmp_path)
    changed = pq.read_table(tmp_path / "data" / f"{SHARDS[1]}.parquet").slice(1)
    pq.write_table(changed, tmp_path / "data" / f"{SHARDS[1]}.parquet")
    assert hash_content(files, tmp_path) != first
    with pytest.raises(DataError, match=r"a folder with train\.parquet was expected, there is none"):
        find_files(system, "nowhere", "s3://bucket/nowhere")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "s3://bucket/x?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:9",
            r"cannot be read \(.*127\.0\.0\.1",
        ),
        ("s3://bucket/x?secret=y", "there is no option secret; allowed: region"),
        ("s3://key:secret@bucket/x", "a password does not belong there"),
        ("ftp://host/x", "must be a folder or begin with s3://, gs:// or file://, found ftp://"),
        ("file:///nowhere/x", "there is none"),
    ],
)
def test_stores_that_cannot_be_read_are_explained_soon(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    start = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        prepare(DataSpec(name="parquet", path=path), tmp_path / "cache")
    assert time.monotonic() - start < 20
    assert "key:secret" not in str(caught.value)
