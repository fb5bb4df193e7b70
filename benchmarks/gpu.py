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
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from throughput import (
    BATCH,
    NETWORKS,
    Piece,
    PilImages,
    build_ours,
    build_textbook,
    measure_processes,
    read_pil,
    time_piece,
)
from torch import nn

from tuner.spec.hyperparameters import ResNet
from tuner.spec.search import DataSpec
from tuner.train.data import load_splits
from tuner.train.loop import Trainer

NETWORKS["resnet18"] = ResNet(depth=18)
WORKERS = 8
SHARING = (1, 2, 4, 8)
PRECISIONS = ("bfloat16", "float32")


def finished(piece: Piece) -> Piece:
    """Let a piece end only when the GPU has done all of it."""

    def run(batches: int) -> None:
        piece(batches)
        torch.cuda.synchronize()

    return run


def build_limit(trainer: Trainer) -> Piece:
    """Return the barest loop around a trainer's network."""
    images, labels = trainer.feed.gather(torch.arange(BATCH))
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


def measure(folder: Path, cache: Path, name: str, repeats: int, batches: int) -> dict[str, Any]:
    """Let all contestants take turns with one network, then trials share the GPU."""
    data = DataSpec(name="parquet", path=str(folder), label_column="fine_label", validation=0.1)
    splits = load_splits(data, cache)
    dataset = read_pil(folder, splits)
    pieces = {
        **{f"ours_{one}": build_ours(name, splits, device="cuda", precision=one)[1] for one in PRECISIONS},
        "limit": build_limit(build_ours(name, splits, device="cuda", precision="bfloat16")[0]),
        "pil": build_pil(name, dataset, is_fast=False),
        "pil_amp": build_pil(name, dataset, is_fast=True),
    }
    for piece in pieces.values():
        piece(20)
    speeds: dict[str, list[float]] = {contestant: [] for contestant in pieces}
    for _ in range(repeats):
        for contestant, piece in pieces.items():
            speeds[contestant].append(time_piece(finished(piece), batches))
    del pieces
    return {
        "images_per_second": {other: [round(one) for one in values] for other, values in speeds.items()},
        "sharing": {
            one: {
                count: round(measure_processes(name, data, cache, batches, count, device="cuda", precision=one))
                for count in SHARING
            }
            for one in PRECISIONS
        },
    }


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with CIFAR-100's train.parquet")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="batches a piece")
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
