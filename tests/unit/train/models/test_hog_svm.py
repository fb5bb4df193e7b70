"""Histograms of oriented gradients, held against scikit-image's on real images."""

import io
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from tuner.spec.hyperparameters import HogSvm
from tuner.train.data import ImageSplits
from tuner.train.models import Randomness
from tuner.train.models.hog_svm import Hog, build_hog_svm

CIFAR100 = Path(__file__).parents[4] / "../shared/data/cifar100"
Shape = tuple[int, int, int]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    """Two photographs in colour, 61 pixels high and 97 wide."""
    images = [Image.fromarray(load_sample_image(name)).resize((97, 61)) for name in ("china.jpg", "flower.jpg")]
    return np.stack([np.asarray(image) for image in images])


def build(shape: Shape, *, dropout: float = 0.0, seed: int = 0, **options: float) -> nn.Sequential:
    randomness = Randomness(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1))
    with torch.random.fork_rng(devices=[]):
        return build_hog_svm(HogSvm.model_validate(options), shape, 10, dropout, randomness)


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)) / 255


def assert_agrees_with_scikit_image(images: NDArray[np.uint8], cell: int, orientations: int) -> None:
    hog = pytest.importorskip("skimage.feature").hog
    found = Hog(cell, orientations)(as_tensor(images)).numpy()
    is_grey = images.shape[-1] == 1
    for row, image in zip(found, images.astype(np.float32) / np.float32(255), strict=True):
        expected = hog(
            image[:, :, 0] if is_grey else image,
            orientations=orientations,
            pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
            channel_axis=None if is_grey else -1,
            feature_vector=True,
        )
        assert row.shape == expected.shape
        assert expected.max() > 0.2
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("orientations", [2, 4, 7, 9, 14, 36])
@pytest.mark.parametrize("cell", [2, 3, 4])
def test_digits_have_scikit_images_histograms(digits: ImageSplits, cell: int, orientations: int) -> None:
    assert_agrees_with_scikit_image(np.asarray(digits.images[:100]), cell, orientations)


@pytest.mark.parametrize("orientations", [2, 4, 7, 9, 14, 36])
@pytest.mark.parametrize("cell", [4, 5, 8, 30])
def test_photographs_have_scikit_images_histograms(
    photographs: NDArray[np.uint8], cell: int, orientations: int
) -> None:
    assert_agrees_with_scikit_image(photographs, cell, orientations)
    assert_agrees_with_scikit_image(photographs[..., :1], cell, orientations)


@pytest.mark.skipif(not CIFAR100.exists(), reason="the real CIFAR-100 is not at ../shared/data/cifar100")
@pytest.mark.parametrize(("cell", "orientations"), [(8, 9), (5, 8), (16, 12)])
def test_cifar100_has_scikit_images_histograms(cell: int, orientations: int) -> None:
    rows = next(pq.ParquetFile(CIFAR100 / "test.parquet").iter_batches(50, columns=["img"])).to_pylist()
    images = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    assert images.shape == (50, 32, 32, 3)
    assert_agrees_with_scikit_image(images, cell, orientations)


@pytest.mark.parametrize(
    ("down", "across", "expected"), [(0, 1, 0), (1, 0, 2), (1, 1, 1), (1, -1, 3), (0, -1, 0), (-1, 0, 2)]
)
def test_a_slope_fills_the_bin_of_its_direction(down: int, across: int, expected: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    slope = (down * rows + across * columns)[None, None] / 16
    # along the edge of the image, gradients have one component alone; inside they have their direction
    histograms = Hog(2, 4)(slope).reshape(3, 3, 2, 2, 4)[1, 1]
    assert histograms.argmax(-1).unique().tolist() == [expected]
    assert histograms.square().sum().item() == pytest.approx(1, abs=1e-3)
    assert torch.count_nonzero(histograms).item() == 4


def test_an_even_image_has_no_histograms_and_no_nan() -> None:
    assert not Hog(4, 9)(torch.full((2, 3, 8, 8), 0.7)).any()


def test_no_block_is_longer_than_one_and_scale_changes_little(photographs: NDArray[np.uint8]) -> None:
    images = as_tensor(photographs)
    features = Hog(8, 9)(images)
    norms = features.reshape(2, -1, 36).norm(dim=-1)
    assert norms.max().item() <= 1 + 1e-5
    assert features.min().item() >= 0
    # but where next to nothing is seen
    changed = (Hog(8, 9)(images * 255 - 100) - features).abs()
    assert changed.median().item() < 1e-5
    assert changed.max().item() < 0.05


@pytest.mark.parametrize(
    ("shape", "options", "cell", "features"),
    [
        ((8, 8, 1), {}, 4, 36),
        ((8, 8, 1), {"cell_size": 4}, 4, 36),
        ((8, 8, 1), {"cell_size": 2}, 2, 9 * 36),
        ((9, 14, 3), {}, 4, 2 * 36),
        ((32, 32, 3), {}, 8, 9 * 36),
        ((32, 32, 3), {"orientations": 12}, 8, 9 * 48),
        ((28, 28, 1), {"cell_size": 64}, 14, 36),
        ((224, 224, 3), {"cell_size": 16}, 16, 13 * 13 * 36),
    ],
)
def test_cells_shrink_until_a_block_fits(shape: Shape, options: dict[str, float], cell: int, features: int) -> None:
    hog, _, dense = build(shape, **options)
    assert hog.cell_size == cell
    assert dense.in_features == features
    assert hog(torch.zeros(2, shape[2], *shape[:2])).shape == (2, features)


def test_only_the_linear_layer_is_trained_and_kept() -> None:
    model = build((8, 8, 1), dropout=0.5)
    assert [type(module) for module in model] == [Hog, type(model[1]), nn.Linear]
    assert list(model.state_dict()) == ["2.weight", "2.bias"]
    assert model[2].weight.abs().max().item() <= 0.5 / math.sqrt(36)


def test_a_linear_machine_on_histograms_reads_digits(digits: ImageSplits) -> None:
    images, labels = as_tensor(np.asarray(digits.images)), torch.from_numpy(np.asarray(digits.labels))
    model = build((8, 8, 1), cell_size=2)
    train, validation = torch.from_numpy(digits.train), torch.from_numpy(digits.validation)
    features = model[0](images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(100):
        loss = nn.functional.multi_margin_loss(model[2](features[train]), labels[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (model[2](features[validation]).argmax(1) == labels[validation]).float().mean().item()
    assert accuracy > 0.9
