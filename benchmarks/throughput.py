"""How many images a second does the training loop see, beside the loops people write?

One thread, batches of 128 photographs of CIFAR-100 with a random crop and flip, two networks: the lecture's CNN and a
ResNet-8. All contestants take turns, a short piece of training each, several times over; a figure is a median of the
pieces, and only ratios within one run mean anything.

- ours: ``Trainer.epochs()`` as every trial runs it, validation left out;
- limit: our network and memory order in the barest loop, on batches that were augmented before;
- naive: a loop by hand as tutorials have it, on normalised tensors in memory, NCHW, ReLU before pooling, with the same
  augmentation;
- pil_0, pil_2: the same loop on PIL images through torchvision's transforms and a DataLoader with 0 or 2 workers;
- lightning: the same through Lightning, on the tensors in memory;
- keras: Keras on torch, its own layers, on the arrays in memory, with flips and without crops.

Then two processes of ours at once against one alone, and the share of a step that input takes.

    pip install lightning keras
    python benchmarks/throughput.py CIFAR100_FOLDER --repeats 7 --output benchmarks/results/throughput.json
"""

import argparse
import functools
import io
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from tuner.spec.hyperparameters import Architecture, Hyperparameters, ResNet, SimpleCnn
from tuner.spec.search import DataSpec
from tuner.train.data import ImageSplits, load_splits
from tuner.train.loop import Trainer
from tuner.train.models import Randomness, build_model

BATCH, PADDING = 128, 4
NETWORKS: dict[str, Architecture] = {"simple_cnn": SimpleCnn(), "resnet": ResNet(depth=8, width=16)}
Piece = Callable[[int], None]  # trains on so many batches


def time_piece(piece: Piece, batches: int) -> float:
    """Return images a second."""
    start = time.perf_counter()
    piece(batches)
    return batches * BATCH / (time.perf_counter() - start)


def build_ours(name: str, splits: ImageSplits, *, device: str = "cpu", **options: Any) -> tuple[Trainer, Piece]:
    """Return the real loop; an epoch of it is a piece."""
    given = Hyperparameters(
        architecture=NETWORKS[name], batch_size=BATCH, crop_padding=PADDING, flip=True, l2=1e-4, **options
    )
    trainer = Trainer(given, splits, max_epochs=10_000, seed=0, device=device)
    trainer._validate = lambda: {  # type: ignore[method-assign]
        "val_loss": 0.0,
        "val_accuracy": 0.0,
        "val_top5_accuracy": None,
        "val_superclass_accuracy": None,
    }
    rows, epochs = trainer._train_rows, trainer.epochs()

    def piece(batches: int) -> None:
        trainer._train_rows = rows[: batches * BATCH]
        trainer._steps = [batches] * trainer.max_epochs
        next(epochs)

    return trainer, piece


def build_limit(name: str, splits: ImageSplits) -> Piece:
    """Return the barest loop around our network."""
    trainer, _ = build_ours(name, splits)
    images, labels = trainer.feed.gather(torch.arange(BATCH))
    network = trainer.classifier.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    def piece(batches: int) -> None:
        for _ in range(batches):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    return piece


def build_textbook(name: str, num_classes: int = 100) -> nn.Module:
    """Return the network as tutorials write it: ReLU after each convolution, then pooling."""
    if name == "simple_cnn":
        layers: list[nn.Module] = []
        for channels in (3, 32, 32):
            layers += [nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers[:-1], nn.Flatten(), nn.Linear(512, num_classes))
    given = Hyperparameters(architecture=NETWORKS[name])
    return build_model(given, (32, 32, 3), num_classes, Randomness(torch.Generator(), torch.Generator()))


def crop_and_flip(images: Tensor) -> Tensor:
    """Augment float NCHW images as tutorials do on tensors: pad once, one crop an image, flip half of them."""
    padded = nn.functional.pad(images, [PADDING] * 4)
    side = images.shape[-1]
    tops, lefts = torch.randint(0, 2 * PADDING + 1, (2, len(images))).tolist()
    crops = [one[:, t : t + side, left : left + side] for one, t, left in zip(padded, tops, lefts, strict=True)]
    cropped = torch.stack(crops)
    flipped = torch.rand(len(images)) < 0.5
    return torch.where(flipped[:, None, None, None], cropped.flip(-1), cropped)


def normalise(splits: ImageSplits) -> tuple[Tensor, Tensor]:
    """Return all training images as normalised float NCHW tensors, and their labels."""
    images = torch.from_numpy(splits.images[splits.train]).permute(0, 3, 1, 2).float().contiguous()
    mean, std = (torch.tensor(x, dtype=torch.float32)[:, None, None] for x in (splits.mean, splits.std))
    return (images - mean) / std, torch.from_numpy(splits.labels[splits.train])


def train_textbook(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Piece:
    """Return the loop of a tutorial on some batches."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()

    def piece(count: int) -> None:
        network.train()
        total, correct = 0.0, 0
        for _ in range(count):
            images, labels = next(batches)
            optimizer.zero_grad()
            logits = network(images)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            correct += int((logits.argmax(1) == labels).sum())

    return piece


def build_naive(name: str, splits: ImageSplits) -> Piece:
    """Return a tutorial's loop on tensors in memory."""
    images, labels = normalise(splits)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(images)).split(BATCH):
                if len(rows) == BATCH:
                    yield crop_and_flip(images[rows]), labels[rows]

    return train_textbook(build_textbook(name), batches())


class PilImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images as files, decoded one by one."""

    def __init__(self, files: list[bytes], labels: list[int], mean: list[float], std: list[float]) -> None:
        from torchvision import transforms

        self._files, self._labels = files, labels
        steps = [transforms.RandomCrop(32, PADDING), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self._transform = transforms.Compose([*steps, transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(Image.open(io.BytesIO(self._files[row])).convert("RGB")), self._labels[row]


def build_pil(name: str, dataset: PilImages, workers: int) -> Piece:
    """Return a tutorial's loop on a DataLoader."""
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    return train_textbook(build_textbook(name), batches())


def build_lightning(name: str, splits: ImageSplits) -> Piece:
    """Return Lightning's loop on tensors in memory."""
    import lightning

    images, labels = normalise(splits)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_textbook(name)

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return nn.functional.cross_entropy(self.network(crop_and_flip(batch[0])), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(range(len(images))), BATCH, drop_last=True)
    whole = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(whole, sampler=sampler, batch_size=None)
    module = Module()

    def piece(batches: int) -> None:
        lightning.Trainer(
            max_steps=batches, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(module, loader)  # fmt: skip

    return piece


def build_keras(name: str, splits: ImageSplits) -> Piece:
    """Return Keras's loop on arrays in memory; only the lecture's network, which is Keras's own example."""
    import keras

    images = ((splits.images[splits.train] - splits.mean) / splits.std).astype(np.float32)
    labels = splits.labels[splits.train]
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(100),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=loss, metrics=["accuracy"])

    def piece(batches: int) -> None:
        count = batches * BATCH
        model.fit(images[:count], labels[:count], batch_size=BATCH, verbose=0)

    return piece


def measure_input_share(trainer: Trainer, piece: Piece, batches: int) -> float:
    """Return the share of the loop's time that fetching and augmenting takes."""
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            result = function(*args)
            spent += time.perf_counter() - start
            return result

        return run

    gather, augment = trainer.feed.gather, trainer._augment
    trainer.feed.gather, trainer._augment = timed(gather), timed(augment)  # type: ignore[method-assign]
    start = time.perf_counter()
    piece(batches)
    share = spent / (time.perf_counter() - start)
    trainer.feed.gather, trainer._augment = gather, augment  # type: ignore[method-assign]
    return share


def train_elsewhere(
    name: str, options: dict[str, Any], data: DataSpec, cache: Path, batches: int, barrier: Any, speeds: Any
) -> None:
    """Be a process that trains one trial."""
    torch.set_num_threads(1)
    _, piece = build_ours(name, load_splits(data, cache), **options)
    piece(batches)
    barrier.wait()
    speeds.put(time_piece(piece, 6 * batches))


def measure_processes(name: str, data: DataSpec, cache: Path, batches: int, count: int, **options: Any) -> float:
    """Return images a second of several trials at once, together."""
    context = multiprocessing.get_context("spawn")
    barrier, speeds = context.Barrier(count), context.Queue()
    arguments = (name, options, data, cache, batches, barrier, speeds)
    processes = [context.Process(target=train_elsewhere, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    total = sum(speeds.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def read_pil(folder: Path, splits: ImageSplits) -> PilImages:
    """Read the encoded images that are trained on."""
    table = pq.read_table(folder / "train.parquet", columns=["img", "fine_label"])
    rows = splits.train[:20_000].tolist()
    files, labels = table["img"].to_pylist(), table["fine_label"].to_pylist()
    mean, std = ((values / 255).tolist() for values in (splits.mean, splits.std))
    return PilImages([files[row]["bytes"] for row in rows], [labels[row] for row in rows], mean, std)


def measure(
    folder: Path, cache: Path, networks: list[str], repeats: int, batches: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let all contestants take turns; yield what was found of each network."""
    data = DataSpec(name="parquet", path=str(folder), label_column="fine_label", validation=0.1)
    splits = load_splits(data, cache)
    dataset = read_pil(folder, splits)
    for name in networks:
        trainer, ours = build_ours(name, splits)
        pieces: dict[str, Piece] = {
            "ours": ours,
            "limit": build_limit(name, splits),
            "naive": build_naive(name, splits),
            "pil_0": build_pil(name, dataset, 0),
            "pil_2": build_pil(name, dataset, 2),
            "lightning": build_lightning(name, splits),
        }
        if name == "simple_cnn":
            pieces["keras"] = build_keras(name, splits)
        for piece in pieces.values():
            piece(5)
        speeds: dict[str, list[float]] = {contestant: [] for contestant in pieces}
        shares: list[float] = []
        for repeat in range(repeats):
            order = list(pieces)
            for contestant in order[repeat % len(order) :] + order[: repeat % len(order)]:
                speeds[contestant].append(time_piece(pieces[contestant], batches))
            shares.append(measure_input_share(trainer, ours, batches))
        own = speeds["ours"]
        ratios = {
            other: statistics.median(o / t for o, t in zip(own, speeds[other], strict=True))
            for other in pieces
            if other != "ours"
        }
        rounded = {key: round(value, 3) for key, value in ratios.items()}
        print(name, "ours over:", rounded, "input:", round(statistics.median(shares), 4))
        del pieces, trainer, ours
        pairs = []
        for _ in range(min(repeats, 3)):
            one, two = (measure_processes(name, data, cache, batches, count) for count in (1, 2))
            pairs.append(two / one)
        print(name, "two trials over one:", round(statistics.median(pairs), 3))
        yield (
            name,
            {"images_per_second": speeds, "ours_over": ratios, "input_share": shares, "two_trials_over_one": pairs},
        )


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with CIFAR-100's train.parquet")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40, help="batches a piece")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        found: dict[str, Any] = {"torch": torch.__version__, "cpus": os.cpu_count()}
        for name, figures in measure(given.folder, Path(cache), given.networks, given.repeats, given.batches):
            found[name] = figures
            if given.output:
                given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
