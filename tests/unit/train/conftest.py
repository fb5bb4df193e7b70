"""Small data sets, in memory and in files."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tuner.spec.search import DataSpec
from tuner.train.data import ImageSplits, Opening, load_splits


@pytest.fixture(scope="session")
def digits(cache: Path) -> ImageSplits:
    """The embedded data set, split."""
    return load_splits(DataSpec(name="digits"), cache, seed=0)


@pytest.fixture(scope="session")
def opening() -> Opening:
    """Leave to read test splits."""
    return Opening(lambda: None)


@pytest.fixture(scope="session")
def stripes() -> ImageSplits:
    """Ninety noisy 8x8 images of three classes, told apart by which rows are bright."""
    labels = np.arange(90, dtype=np.int64) % 3
    images = np.random.default_rng(0).integers(0, 100, (90, 8, 8, 1), dtype=np.uint8)
    for label in range(3):
        images[labels == label, label * 2 : label * 2 + 3] += 120
    rows = np.arange(90)
    return ImageSplits(
        images, labels, rows[:67], rows[67:], np.array([80.0]), np.array([60.0]), ("a", "b", "c"), "stripes"
    )


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A function from an array, or a Pillow image, to an image file's bytes."""

    def encode(pixels: NDArray[np.uint8] | Image.Image, kind: str = "png") -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        buffer = io.BytesIO()
        image.save(buffer, kind)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def colours(encode: Callable[..., bytes]) -> tuple[NDArray[np.uint8], list[bytes]]:
    """Eight 6x5 images in colour, decoded and as PNG."""
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
    return images, [encode(image) for image in images]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., DataSpec]:
    """A function that writes a Parquet data set and returns its spec."""

    def write(
        images: Sequence[bytes | None] | None,
        labels: Any,
        *,
        split: str = "train",
        label: str = "label",
        metadata: dict[str, str] | None = None,
        **spec: Any,
    ) -> DataSpec:
        columns = {}
        if images is not None:
            columns["img"] = pa.array(
                [None if one is None else {"bytes": one, "path": f"{row}.png"} for row, one in enumerate(images)],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            )
        if labels is not None:
            columns[label] = labels if isinstance(labels, pa.Array) else pa.array(labels)
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), folder / f"{split}.parquet")
        return DataSpec(name="parquet", path=str(folder), **spec)

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch work with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
