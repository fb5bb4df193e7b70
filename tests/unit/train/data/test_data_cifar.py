"""CIFAR as its authors publish it, and as Parquet."""

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, load_splits, open_images, prepare, prepare_test

CIFAR100 = Path(__file__).parents[4] / "../shared/data/cifar100"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 3072), dtype=np.uint8)
FINE = [i % 4 for i in range(40)]
COARSE = [(0, 1, 0, 1)[label] for label in FINE]


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes as the Python 2 did that the published files come from."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def write_pickle(path: Path, value: Any) -> None:
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(value)
    old = buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(old)


def write_hundred(folder: Path, coarse: list[int] = COARSE) -> Path:
    batch = {b"data": PIXELS, b"fine_labels": FINE, b"coarse_labels": coarse, b"filenames": [b"x.png"] * 40}
    write_pickle(folder / "train", batch)
    write_pickle(folder / "test", {**batch, b"data": 255 - PIXELS})
    names = {b"fine_label_names": [b"a", b"b", b"c", b"d"], b"coarse_label_names": [b"x", b"y"]}
    write_pickle(folder / "meta", names)
    return folder


def test_photographs_have_their_rows_and_colours_in_place(tmp_path: Path, opening: Opening) -> None:
    spec = DataSpec(name="cifar100", path=str(write_hundred(tmp_path / "cifar-100-python").parent))
    train = prepare(spec, tmp_path / "cache")
    opened = open_images(train)
    # the files hold all red values row by row, then all green, then all blue
    np.testing.assert_array_equal(opened.images[3, 5, 7], PIXELS[3].reshape(3, 1024)[:, 5 * 32 + 7])
    np.testing.assert_array_equal(opened.labels, FINE)
    assert opened.class_names == ("a", "b", "c", "d")
    assert opened.superclasses is not None
    assert opened.superclasses.tolist() == [0, 1, 0, 1]
    test = open_images(prepare_test(spec, tmp_path / "cache", train, opening), opening)
    np.testing.assert_array_equal(test.images, 255 - opened.images)
    splits = load_splits(spec, tmp_path / "cache")
    np.testing.assert_array_equal(splits.superclasses, [0, 1, 0, 1])


def test_coarse_labels_are_other_images(tmp_path: Path) -> None:
    fine = DataSpec(name="cifar100", path=str(write_hundred(tmp_path / "a")))
    coarse = prepare(fine.model_copy(update={"labels": "coarse"}), tmp_path / "cache")
    assert coarse.class_names == ("x", "y")
    assert coarse.content != prepare(fine, tmp_path / "cache").content
    assert open_images(coarse).superclasses is None
    np.testing.assert_array_equal(open_images(coarse).labels, COARSE)


def test_the_ten_classes_come_in_five_files(tmp_path: Path) -> None:
    for i in range(5):
        rows = slice(8 * i, 8 * i + 8)
        batch = {b"data": PIXELS[rows], b"labels": FINE[rows]}
        write_pickle(tmp_path / f"data_batch_{i + 1}", batch)
    write_pickle(tmp_path / "batches.meta", {b"label_names": [b"a", b"b", b"c", b"d"], b"num_vis": 3072})
    opened = open_images(prepare(DataSpec(name="cifar10", path=str(tmp_path)), tmp_path / "cache"))
    np.testing.assert_array_equal(opened.images.transpose(0, 3, 1, 2).reshape(40, -1), PIXELS)
    np.testing.assert_array_equal(opened.labels, FINE)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_cannot_run_code(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_hundred(tmp_path / "a")
    (tmp_path / "a" / "meta").write_bytes(pickle.dumps({"fine_label_names": [Evil()]}, protocol))
    with pytest.raises(DataError, match=r"meta: .*\(it asks for (posix|nt)\.mkdir, which is not allowed"):
        prepare(DataSpec(name="cifar100", path=str(tmp_path / "a")), tmp_path / "cache")
    assert not (tmp_path / "evil").exists()


def test_files_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    spec = DataSpec(name="cifar100", path=str(write_hundred(tmp_path / "a")))
    train = tmp_path / "a" / "train"
    whole = train.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            prepare(spec, tmp_path / "cache")

    train.write_bytes(whole[:1000])
    refused("train: a pickled dictionary .* cannot be read as one")
    write_pickle(train, [1])
    refused("train: a dictionary was expected, found list")
    write_pickle(train, {b"data": PIXELS})
    refused("a list of fine_labels was expected, found the keys data")
    write_pickle(train, {b"data": PIXELS[:, :9], b"fine_labels": FINE, b"coarse_labels": COARSE})
    refused("rows of 3,072 bytes")
    write_pickle(train, {b"data": PIXELS, b"fine_labels": FINE[1:], b"coarse_labels": COARSE})
    refused("40 whole numbers were expected as fine_labels, found 39")
    write_pickle(train, {b"data": PIXELS, b"fine_labels": [9, *FINE[1:]], b"coarse_labels": COARSE})
    refused(r"train, fine_labels: labels must be 0 to 3, for 4 named classes; row 0 has 9")
    write_hundred(tmp_path / "a", [1, *COARSE[1:]])
    refused("every class must be of one superclass, a is of several")


@pytest.mark.skipif(not CIFAR100.exists(), reason="the real CIFAR-100 is not at ../shared/data/cifar100")
def test_the_real_classes_are_of_the_superclasses_that_are_published(tmp_path: Path, opening: Opening) -> None:
    for split, num_rows in (("train", 9000), ("test", 100)):
        rows = next(pq.ParquetFile(CIFAR100 / f"{split}.parquet").iter_batches(num_rows))
        pq.write_table(pa.Table.from_batches([rows]), tmp_path / f"{split}.parquet")
    spec = DataSpec(name="cifar100", path=str(tmp_path))
    train = prepare(spec, tmp_path / "cache")
    opened = open_images(train)
    assert opened.superclasses is not None
    assert (train.image_shape, len(train.class_names)) == ((32, 32, 3), 100)
    assert np.bincount(opened.superclasses).tolist() == [5] * 20
    coarse = prepare(spec.model_copy(update={"labels": "coarse"}), tmp_path / "cache")
    np.testing.assert_array_equal(opened.superclasses[opened.labels], open_images(coarse).labels)
    members = {name for name, of in zip(train.class_names, opened.superclasses, strict=True) if of == 0}
    assert members == {"beaver", "dolphin", "otter", "seal", "whale"}
    assert coarse.class_names[0] == "aquatic_mammals"
    assert prepare_test(spec, tmp_path / "cache", train, opening).num_images == 100
