"""Training on a real GPU: every family, precision, memory that ends, and checkpoints that change the device."""

import gc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tuner.errors import OutOfMemoryError
from tuner.spec.hyperparameters import (
    AlexNet,
    Architecture,
    GoogLeNet,
    HogSvm,
    Hyperparameters,
    LeNet,
    MobileNetV2,
    Muon,
    ResNet,
    SimpleCnn,
    Vgg,
    Vit,
    Xception,
)
from tuner.train.checkpoint import load_model
from tuner.train.data import ImageSplits
from tuner.train.loop import EpochResult, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")

FAMILIES: dict[str, Architecture] = {
    "simple_cnn": SimpleCnn(width=16, batch_norm=True),
    "lenet": LeNet(),
    "alexnet": AlexNet(width=0.25, head=64, batch_norm=True),
    "vgg": Vgg(depth=11, width=0.25, head=64, batch_norm=True),
    "googlenet": GoogLeNet(width=0.25),
    "resnet": ResNet(depth=8, width=8),
    "xception": Xception(width=0.125, middle_blocks=1),
    "mobilenet_v2": MobileNetV2(width=0.25),
    "vit": Vit(patch=2, depth=2, heads=2, width=32),
    "hog_svm": HogSvm(cell_size=2),
}
SMALL = SimpleCnn(depth=2, width=8)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let torch use 256 MiB of the GPU."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**28 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def train(splits: ImageSplits, device: str, epochs: int = 2, **options: Any) -> list[EpochResult]:
    given = Hyperparameters(**{"architecture": SMALL, "batch_size": 16, **options})
    return list(Trainer(given, splits, max_epochs=epochs, seed=0, device=device).epochs())


@pytest.mark.parametrize("architecture", [pytest.param(one, id=name) for name, one in FAMILIES.items()])
def test_a_gpu_trains_what_a_cpu_does(architecture: Architecture, stripes: ImageSplits) -> None:
    options: dict[str, Any] = {"architecture": architecture, "learning_rate": 1e-3, "l2": 1e-4, "dropout": 0.0}
    options |= {"precision": "float32", "tf32": False}
    gpu, cpu = (train(stripes, device, 1, **options)[0] for device in ("cuda", "cpu"))
    assert gpu.train_loss == pytest.approx(cpu.train_loss, rel=0.02)
    assert gpu.val_loss == pytest.approx(cpu.val_loss, rel=0.05)
    assert gpu.l2_share == pytest.approx(cpu.l2_share, rel=0.01)
    assert (gpu.parameters, gpu.multiply_adds) == (cpu.parameters, cpu.multiply_adds)
    assert 0 < gpu.peak_memory_bytes < torch.cuda.get_device_properties(0).total_memory


@pytest.mark.parametrize("architecture", [pytest.param(one, id=name) for name, one in FAMILIES.items()])
def test_every_family_learns_as_auto_uses_the_gpu(architecture: Architecture, stripes: ImageSplits) -> None:
    results = train(stripes, "cuda", 6, architecture=architecture, learning_rate=3e-3, dropout=0.1)
    assert all(math.isfinite(one.val_loss) for one in results)
    assert results[-1].train_loss < results[0].train_loss


@pytest.mark.parametrize("options", [{"precision": "float32"}, {"precision": "bfloat16"}, {"precision": "float16"}])
@pytest.mark.parametrize("channels_last", [True, False])
def test_every_precision_learns_alike(options: dict[str, str], channels_last: bool, stripes: ImageSplits) -> None:
    exact = train(stripes, "cuda", 8, precision="float32", tf32=False)
    found = train(stripes, "cuda", 8, channels_last=channels_last, **options)
    assert found[-1].train_loss == pytest.approx(exact[-1].train_loss, rel=0.25)


def test_everything_that_augments_averages_and_regularises_runs(digits: ImageSplits) -> None:
    options: dict[str, Any] = {"flip": False, "crop_padding": 1, "rotation": 5.0, "colour_jitter": 0.1, "cutout": 0.2}
    options |= {"mixup": 0.2, "cutmix": 0.2, "rand_augment": 2, "label_smoothing": 0.1, "class_weights": "balanced"}
    options |= {"weight_average": 0.9, "gradient_clip": 1.0, "micro_batch": 7, "warm_up": 0.1}
    results = train(digits, "cuda", 3, optimizer=Muon(), learning_rate=0.02, **options)
    assert results[-1].val_accuracy > 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
def test_a_compiled_network_learns_the_same(digits: ImageSplits) -> None:
    plain, compiled = (train(digits, "cuda", 2, precision="float32", compile=one) for one in (False, True))
    assert compiled[-1].train_loss == pytest.approx(plain[-1].train_loss, rel=0.05)


@pytest.mark.parametrize("to", ["cuda", "cpu"])
def test_a_checkpoint_of_a_gpu_goes_on_anywhere(to: str, stripes: ImageSplits, tmp_path: Path) -> None:
    given = Hyperparameters(architecture=SMALL, batch_size=16, precision="float32", tf32=False, dropout=0.0)
    whole = list(Trainer(given, stripes, max_epochs=3, seed=0, device="cuda").epochs())
    first = Trainer(given, stripes, max_epochs=3, seed=0, device="cuda")
    epochs = first.epochs()
    next(epochs), next(epochs)
    first.save(tmp_path / "last.pt")
    second = Trainer(given, stripes, max_epochs=3, seed=0, device=to)
    second.restore(tmp_path / "last.pt")
    (last,) = second.epochs()
    assert last.epoch == 3
    assert last.train_loss == pytest.approx(whole[-1].train_loss, rel=1e-3)
    second.save_model(tmp_path / "model.pt")
    model, _ = load_model(tmp_path / "model.pt")
    assert {one.device.type for one in model.parameters()} == {"cpu"}


def test_the_same_seed_trains_the_same_on_one_gpu(stripes: ImageSplits) -> None:
    first, second = (train(stripes, "cuda", 3, dropout=0.3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=0.01)


@pytest.mark.usefixtures("little_memory")
def test_a_batch_that_does_not_fit_is_split() -> None:
    splits = make_large_images()
    given = {"architecture": SimpleCnn(depth=2, width=64), "batch_size": 64, "precision": "float32"}
    results = train(splits, "cuda", 1, **given)
    assert 1 <= results[0].micro_batch < 64
    assert math.isfinite(results[0].val_loss)


@pytest.mark.usefixtures("little_memory")
def test_a_network_that_does_not_fit_says_so_and_leaves_a_clean_gpu(stripes: ImageSplits) -> None:
    with pytest.raises(OutOfMemoryError, match="out of memory on cuda"):
        train(stripes, "cuda", 1, architecture=AlexNet())
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < 2**27, "the workspace of cuBLAS, and no network"
    assert math.isfinite(train(stripes, "cuda", 1)[0].val_loss)


def make_large_images() -> ImageSplits:
    """Make images of which a batch of 64 takes more than 256 MiB."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (96, 128, 128, 3), dtype=np.uint8)
    labels, rows = np.arange(96, dtype=np.int64) % 3, np.arange(96)
    mean, std = np.full(3, 127.0), np.full(3, 70.0)
    return ImageSplits(images, labels, rows[:64], rows[64:], mean, std, ("a", "b", "c"), "large")


def test_peak_memory_is_that_of_the_training_alone(stripes: ImageSplits) -> None:
    small = train(stripes, "cuda", 1)[0].peak_memory_bytes
    large = train(stripes, "cuda", 1, architecture=SimpleCnn(depth=2, width=256))[0].peak_memory_bytes
    again = train(stripes, "cuda", 1)[0].peak_memory_bytes
    assert large > small
    assert again < (small + large) / 2
