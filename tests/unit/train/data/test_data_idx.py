"""MNIST's format, and the real Fashion-MNIST."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, load_splits, open_images, prepare, prepare_test
from tuner.train.data.idx import DEBIAN_FASHION, FASHION

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
LABELS = (np.arange(40) % 10).astype(np.uint8)


def encode_idx(array: NDArray[np.uint8], kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(
    folder: Path,
    images: NDArray[np.uint8] = IMAGES,
    labels: NDArray[np.uint8] = LABELS,
    *,
    prefix: str = "train",
    is_compressed: bool = False,
) -> DataSpec:
    folder.mkdir(exist_ok=True)
    for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        content = encode_idx(array)
        ending = ".gz" if is_compressed else ""
        (folder / f"{prefix}-{name}{ending}").write_bytes(gzip.compress(content) if is_compressed else content)
    return DataSpec(name="idx", path=str(folder))


@pytest.mark.parametrize("is_compressed", [False, True])
def test_images_and_labels_come_out_as_they_went_in(is_compressed: bool, tmp_path: Path, opening: Opening) -> None:
    spec = write_idx(tmp_path / "a", is_compressed=is_compressed)
    write_idx(tmp_path / "a", IMAGES[:3], LABELS[:3], prefix="t10k", is_compressed=is_compressed)
    train = prepare(spec, tmp_path / "cache")
    assert train.class_names == tuple("0123456789")
    assert train.class_sizes == (4,) * 10
    assert train.notes == ()
    np.testing.assert_array_equal(open_images(train).images[..., 0], IMAGES)
    np.testing.assert_array_equal(open_images(train).labels, LABELS)
    test = open_images(prepare_test(spec, tmp_path / "cache", train, opening), opening)
    np.testing.assert_array_equal(test.images[..., 0], IMAGES[:3])


def test_a_test_split_must_have_the_classes_and_size_of_the_training_split(tmp_path: Path, opening: Opening) -> None:
    spec = write_idx(tmp_path / "a")
    write_idx(tmp_path / "a", IMAGES[:3], LABELS[:3], prefix="t10k")
    train = prepare(spec, tmp_path / "cache")
    write_idx(tmp_path / "a", IMAGES[:3, 1:], LABELS[:3], prefix="t10k")
    with pytest.raises(DataError, match=r"\(5, 4, 1\), found \(4, 4, 1\)"):
        prepare_test(spec, tmp_path / "cache", train, opening)
    write_idx(tmp_path / "a", IMAGES, LABELS + 1, prefix="t10k")
    with pytest.raises(DataError, match=r"labels must be 0 to 9, for 10 named classes; row 9 has 10"):
        prepare_test(spec, tmp_path / "cache", train, opening)


def test_mnist_and_fashion_mnist_have_names_of_their_own(tmp_path: Path) -> None:
    path = str(write_idx(tmp_path / "a").path)
    assert prepare(DataSpec(name="mnist", path=path), tmp_path / "cache").class_names == tuple("0123456789")
    fashion = prepare(DataSpec(name="fashion_mnist", path=path), tmp_path / "cache")
    assert fashion.class_names == FASHION
    wrong = write_idx(tmp_path / "b", IMAGES, LABELS + 1)
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: labels must be 0 to 9, .* row 9 has 10 \(4 such rows\)"):
        prepare(DataSpec(name="mnist", path=wrong.path), tmp_path / "cache")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:-1], r"a label for each of the 40 images .* found \(39,\)"),
        (IMAGES[:, 0], LABELS, r"images must have the dimensions .* found \(40, 4\)"),
        (np.zeros((4, 5, 5, 4), np.uint8), LABELS[:4], r"found \(4, 5, 5, 4\)"),
        (IMAGES[:0], LABELS[:0], r"found \(0, 5, 4, 1\)"),
        (IMAGES[:11], LABELS[:11], r"every class needs at least 2 images, .* found 1 \(1\): 1"),
    ],
)
def test_files_that_cannot_be_used_are_explained(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(write_idx(tmp_path / "a", images, labels), tmp_path / "cache")


@pytest.mark.parametrize("length", [0, 3, 10, 100, -1])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_file_that_is_cut_short_is_explained(length: int, is_compressed: bool, tmp_path: Path) -> None:
    spec = write_idx(tmp_path / "a", is_compressed=is_compressed)
    path = next((tmp_path / "a").glob("train-images*"))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte(\.gz)?: .*(cut short|IDX format)"):
        prepare(spec, tmp_path / "cache")


def test_other_types_and_missing_files_are_explained(tmp_path: Path) -> None:
    spec = write_idx(tmp_path / "a")
    (tmp_path / "a" / "train-labels-idx1-ubyte").write_bytes(encode_idx(LABELS, kind=13))
    with pytest.raises(DataError, match="unsigned bytes in the IDX format were expected"):
        prepare(spec, tmp_path / "cache")
    (tmp_path / "a" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte were expected, .* found train-images-idx3-ubyte;"):
        prepare(spec, tmp_path / "cache")
    with pytest.raises(DataError, match=r"nowhere: .* no such folder"):
        prepare(DataSpec(name="idx", path=str(tmp_path / "nowhere")), tmp_path / "cache")


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_found_where_debian_puts_it(tmp_path: Path, opening: Opening) -> None:
    spec = DataSpec(name="fashion_mnist", download=False, fraction=0.1)
    prepared = prepare(spec, tmp_path)
    assert (prepared.num_images, prepared.image_shape, prepared.class_sizes) == (60_000, (28, 28, 1), (6000,) * 10)
    opened = open_images(prepared)
    assert [opened.class_names[label] for label in opened.labels[:3]] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]
    assert opened.images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)  # as is widely published
    assert len(load_splits(spec, tmp_path).train) == 4800
    assert prepare_test(spec, tmp_path, prepared, opening).class_sizes == (1000,) * 10
