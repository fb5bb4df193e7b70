"""Street View House Numbers, as Matlab files."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import Opening, open_images, prepare, prepare_test

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(40) % 10


def write(folder: Path, split: str = "train", **changed: object) -> DataSpec:
    digits = np.where(LABELS == 0, 10, LABELS).astype(np.uint8)[:, None]
    savemat(folder / f"{split}_32x32.mat", {"X": IMAGES.transpose(1, 2, 3, 0), "y": digits, **changed})
    return DataSpec(name="svhn", path=str(folder), download=False)


def test_label_ten_is_the_digit_zero(tmp_path: Path, opening: Opening) -> None:
    spec = write(tmp_path)
    train = prepare(spec, tmp_path / "cache")
    opened = open_images(train)
    np.testing.assert_array_equal(opened.images, IMAGES)
    np.testing.assert_array_equal(opened.labels, LABELS)
    assert train.class_names == tuple("0123456789")
    write(tmp_path, "test", X=255 - IMAGES.transpose(1, 2, 3, 0))
    np.testing.assert_array_equal(
        open_images(prepare_test(spec, tmp_path / "cache", train, opening), opening).images, 255 - IMAGES
    )


def test_files_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="X of 32x32x3xN bytes and y of Nx1 were expected, found float64"):
        prepare(write(tmp_path, X=np.zeros((32, 32, 3, 40))), tmp_path / "cache")
    with pytest.raises(DataError, match=r"labels must be 0 to 9, for 10 named classes; row 0 has 11"):
        prepare(write(tmp_path, y=np.full((40, 1), 11, np.uint8)), tmp_path / "cache")
    spec = write(tmp_path)
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"train_32x32\.mat: a whole Matlab file with X and y was expected"):
        prepare(spec, tmp_path / "cache")
