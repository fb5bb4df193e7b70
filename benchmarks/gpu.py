"""What does one GPU give: our training loop beside the loops people write, and several trials that share it.

Batches of 128 photographs of CIFAR-100 with a random crop and flip. The contestants take turns, an epoch's piece of
training each, several times over; a figure is a median of the pieces, and only ratios within one run mean anything.

- ours_bfloat16, ours_float32: ``Trainer.epochs()`` as every trial runs it, validation left out, in both precisions;
- limit: our network in bfloat16 in the barest loop, on one batch that lies on the GPU;
- pil: a tutorial's loop in float32, on PIL images through torchvision's transforms and a DataLoader with 8 workers;
- pil_amp: the same with autocast to bfloat16, channels last, pinned memory and ``non_blocking`` copies.

Then 1, 2, 4 and 8 processes of ours at once on the same GPU, in both precisions: images a second of all together.

    python benchmarks/gpu.py CIFAR100_FOLDER --output benchmarks/results/gpu.json
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from throughput import BATCH, NETWORKS, PADDING, PilImages, build_textbook, read_pil
from torch import nn

from tuner.spec.hyperparameters import Architecture, Hyperparameters, ResNet
from tuner.spec.search import DataSpec
from tuner.train.data import ImageSplits, load_splits
from tuner.train.loop import Trainer

NETWORKS["resnet18"] = ResNet(depth=18)
WORKERS = 8
SHARING = (1, 2, 4, 8)
PRECISIONS = ("bfloat16", "float32")
Piece = Callable[[int], None]


def time_piece(piece: Piece, batches: int) -> float:
    """Return images a second."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    piece(batches)
    torch.cuda.synchronize()
    return batches * BATCH / (time.perf_counter() - start)


def build_ours(architecture: Architecture, splits: ImageSplits, **options: Any) -> tuple[Trainer, Piece]:
    """Return the real loop; an epoch of it is a piece."""
    given = Hyperparameters(
        architecture=architecture, batch_size=BATCH, crop_padding=PADDING, flip=True, l2=1e-4, **options
    )
    trainer = Trainer(given, splits, max_epochs=10_000, seed=0, device="cuda")
    none = {"val_loss": 0.0, "val_accuracy": 0.0, "val_top5_accuracy": None, "val_superclass_accuracy": None}
    trainer._validate = lambda: none  # type: ignore[method-assign, assignment, return-value]
    rows, epochs = trainer._train_rows, trainer.epochs()

    def piece(batches: int) -> None:
        trainer._train_rows = rows[: batches * BATCH]
        trainer._steps = [batches] * trainer.max_epochs
        next(epochs)

    return trainer, piece


def build_limit(trainer: Trainer) -> Piece:
    """Return the barest loop around a trainer's network."""
    images, labels = trainer._feed.gather(torch.arange(BATCH))
    network = trainer.classifier.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True)

    def piece(batches: int) -> None:
        for _ in range(batches):
            optimizer.zero_grad()
            with trainer.acceleration.autocast(torch.device("cuda")):
                loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()

    return piece


def build_pil(name: str, dataset: PilImages, *, is_fast: bool) -> Piece:
    """Return a tutorial's loop on a DataLoader, or the same by the tuning guide."""
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True, pin_memory=is_fast
    )
    network = build_textbook(name).cuda().train()
    if is_fast:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def piece(count: int) -> None:
        total, correct = 0.0, 0
        for _ in range(count):
            images, labels = (one.to("cuda", non_blocking=is_fast) for one in next(batches))
            if is_fast:
                images = images.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=is_fast):
                logits = network(images)
                loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            correct += int((logits.argmax(1) == labels).sum())

    return piece


def train_elsewhere(
    name: str, precision: str, data: DataSpec, cache: Path, batches: int, barrier: Any, speeds: Any
) -> None:
    """Be a process that trains one trial."""
    torch.set_num_threads(1)
    _, piece = build_ours(NETWORKS[name], load_splits(data, cache), precision=precision)
    piece(batches)
    barrier.wait()
    speeds.put(time_piece(piece, 2 * batches))


def measure_sharing(name: str, precision: str, data: DataSpec, cache: Path, batches: int, count: int) -> float:
    """Return images a second of several trials at once, together."""
    context = multiprocessing.get_context("spawn")
    barrier, speeds = context.Barrier(count), context.Queue()
    arguments = (name, precision, data, cache, batches, barrier, speeds)
    processes = [context.Process(target=train_elsewhere, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    total: float = sum(speeds.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return total


def measure(folder: Path, cache: Path, name: str, repeats: int, batches: int) -> dict[str, Any]:
    """Let all contestants take turns with one network, then trials share the GPU."""
    data = DataSpec(name="parquet", path=str(folder), label_column="fine_label", validation=0.1)
    splits = load_splits(data, cache)
    dataset = read_pil(folder, splits)
    pieces = {
        **{f"ours_{one}": build_ours(NETWORKS[name], splits, precision=one)[1] for one in PRECISIONS},
        "limit": build_limit(build_ours(NETWORKS[name], splits, precision="bfloat16")[0]),
        "pil": build_pil(name, dataset, is_fast=False),
        "pil_amp": build_pil(name, dataset, is_fast=True),
    }
    for piece in pieces.values():
        piece(20)
    speeds: dict[str, list[float]] = {contestant: [] for contestant in pieces}
    for _ in range(repeats):
        for contestant, piece in pieces.items():
            speeds[contestant].append(time_piece(piece, batches))
    del pieces
    return {
        "images_per_second": {other: [round(one) for one in values] for other, values in speeds.items()},
        "sharing": {
            precision: {
                count: round(measure_sharing(name, precision, data, cache, batches, count)) for count in SHARING
            }
            for precision in PRECISIONS
        },
    }


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with CIFAR-100's train.parquet")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=60, help="batches a piece")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(),
        "cpus": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as cache:
        for name in given.networks:
            found[name] = measure(given.folder, Path(cache), name, given.repeats, given.batches)
            print(name, found[name], flush=True)
            if given.output:
                given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
