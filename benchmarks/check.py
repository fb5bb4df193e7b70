"""Does ``tuner check`` stay silent on networks that are right, and find what is wrong?

Every family at the smallest size that makes sense, three seeds each, with all that the check looks at; a warning or a
failure is a false alarm. Then the faults, planted in a simple CNN, a LeNet and a ResNet with the same seeds; one is
caught if the check that is made for it warns or fails. Last, windows of learning rates: those around what a short
training of the same network finds best should pass, and not the same ones a hundred (ten) times too high or too low.

    python benchmarks/check.py CIFAR100_FOLDER --output benchmarks/results/check.json

What the output file has is not run again, so a run that was cut off goes on.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

import tuner.train.loop
import tuner.train.step
from tuner.spec import Space, load_text
from tuner.spec.hyperparameters import build_hyperparameters
from tuner.spec.search import DataSpec
from tuner.train.checks import check_space
from tuner.train.checks.learning import find_rates, judge_rates
from tuner.train.checks.networks import list_networks
from tuner.train.data import ImageSplits, load_splits
from tuner.train.loop import Trainer
from tuner.train.models import Dropout, build_model
from tuner.train.optimizers import add_l2_gradient

SEEDS = (0, 1, 2)
SOME = 2048  # images of CIFAR-100 to train on
FAMILIES = {
    "simple_cnn": {"simple_cnn": {"depth": 2, "width": 16}},
    "lenet": {"lenet": {"activation": "relu"}},
    "alexnet": {"alexnet": {"width": 0.25, "head": 128}},
    "vgg": {"vgg": {"depth": 11, "width": 0.25, "head": 128, "batch_norm": True}},
    "googlenet": {"googlenet": {"width": 0.25}},
    **{
        f"resnet {unit}": {"resnet": {"depth": 8, "width": 16, "unit": unit}}
        for unit in (
            "original",
            "bn_after_addition",
            "relu_before_addition",
            "relu_only_preactivation",
            "full_preactivation",
        )
    },
    "xception": {"xception": {"width": 0.25, "middle_blocks": 2}},
    "mobilenet_v2": {"mobilenet_v2": {"width": 0.5}},
    "vit": {"vit": {"patch": 2, "depth": 2, "heads": 2, "width": 32}},
    "hog_svm": {"hog_svm": {"cell_size": 4}},
}
PLANTED_IN = ("simple_cnn", "lenet", "resnet original")
WINDOW = (1 / 30, 3.0)  # of the rate that is best in a short training
RATES = tuple(10**exponent for exponent in np.arange(-4, 0.6, 0.5).tolist())
FACTORS = (1.0, 10.0, 0.1, 100.0, 0.01)


def build_space(family: str, learning_rate: Any = None) -> Space:
    """Write the space of one network."""
    given = {
        "name": "checked",
        "data": "digits",
        "space": {
            "architecture": FAMILIES[family],
            "learning_rate": learning_rate or {"loguniform": [1e-4, 1.0]},
            "l2": {"loguniform": [1e-6, 1e-3]},
            "dropout": {"uniform": [0.0, 0.5]},
            "batch_size": 32,
        },
        "stages": {"only": {"trials": 1, "max_epochs": 1, "halving": "none"}},
    }
    space = load_text(json.dumps(given)).space
    assert isinstance(space, Space), "it was just written"
    return space


def check(family: str, splits: ImageSplits, seed: int, *, is_quick: bool = False) -> list[dict[str, Any]]:
    """Return what is not right by the check."""
    findings = check_space(build_space(family), splits, seed=seed, is_quick=is_quick)
    return [dataclasses.asdict(finding) for finding in findings if finding.status != "pass"]


@contextlib.contextmanager
def changed(change: Callable[[nn.Module], nn.Module], more_classes: int = 0) -> Iterator[None]:
    """Have every network changed after it was built."""

    def build(given: Any, shape: Any, num_classes: int, randomness: Any) -> nn.Module:
        return change(build_model(given, shape, num_classes + more_classes, randomness))

    with mock.patch.object(tuner.train.loop, "build_model", build):
        yield


def zero(network: nn.Module) -> nn.Module:
    """Begin with zeros."""
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def freeze(network: nn.Module) -> nn.Module:
    """Freeze the first layer."""
    for parameter in next(m for m in network.modules() if isinstance(m, nn.Conv2d)).parameters():
        parameter.requires_grad_(False)
    return network


class DroppedScores(nn.Module):
    """Drops units before the scores, also in evaluation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dropout = Dropout(0.5, torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        """Score images."""
        self.dropout.training = True
        scores: Tensor = self.dropout(self.network(images))
        return scores


def double_l2(weights: list[nn.Parameter], l2: float) -> Tensor:
    """Add the L2 term's gradient twice."""
    return add_l2_gradient(weights, l2) + add_l2_gradient(weights, l2)


def shuffle(splits: ImageSplits) -> ImageSplits:
    """Give each image another's label."""
    return dataclasses.replace(splits, labels=np.random.default_rng(0).permutation(splits.labels))


def forget_to_normalise(splits: ImageSplits) -> ImageSplits:
    """Let pixels be what they are."""
    return dataclasses.replace(splits, mean=np.zeros_like(splits.mean), std=np.ones_like(splits.std))


Fault = tuple[Callable[[], contextlib.AbstractContextManager[Any]], Callable[[ImageSplits], ImageSplits], str]
FAULTS: dict[str, Fault] = {
    "a double softmax": (lambda: changed(lambda one: nn.Sequential(one, nn.Softmax(dim=1))), lambda s: s, "scores"),
    "shuffled labels": (contextlib.nullcontext, shuffle, "carries over"),
    "a frozen layer": (lambda: changed(freeze), lambda s: s, "gradients"),
    "zero initialisation": (lambda: changed(zero), lambda s: s, "gradients"),
    "missing normalisation": (contextlib.nullcontext, forget_to_normalise, "normalised"),
    "a class too many": (lambda: changed(lambda network: network, 1), lambda s: s, "scores"),
    "a class too few": (lambda: changed(lambda network: network, -1), lambda s: s, "scores"),
    "dropout in evaluation": (lambda: changed(DroppedScores), lambda s: s, "evaluation"),
    "L2 counted twice": (
        lambda: mock.patch.object(tuner.train.step, "add_l2_gradient", double_l2),
        lambda s: s,
        "L2 once",
    ),
}  # fmt: skip


def plant(fault: str, family: str, splits: ImageSplits, seed: int) -> list[dict[str, Any]]:
    """Return what the check says of a network with a fault."""
    planted, spoil, made_for = FAULTS[fault]
    with planted():
        return check(family, spoil(splits), seed, is_quick=made_for != "carries over")


def find_best_rate(family: str, splits: ImageSplits) -> float:
    """Find the learning rate with which five epochs on a part of the images come furthest; of two, the middle."""
    (network,) = list_networks(build_space(family), splits.image_shape, splits.num_classes)
    reached: dict[float, float] = {}
    for rate in RATES:
        given = build_hyperparameters({**network.config, "learning_rate": rate, "dropout": 0.0})
        some = dataclasses.replace(splits, train=splits.train[:1024], validation=splits.validation[:512], order=None)
        losses = [result.val_loss for result in Trainer(given, some, max_epochs=5, seed=0).epochs()]
        reached[rate] = min((loss for loss in losses if math.isfinite(loss)), default=math.inf)
    first, second = sorted(reached, key=lambda rate: reached[rate])[:2]
    return math.sqrt(first * second)


def judge_windows(family: str, splits: ImageSplits) -> dict[str, Any]:
    """Hold right and wrong windows of learning rates against range tests."""
    best = find_best_rate(family, splits)
    (network,) = list_networks(build_space(family), splits.image_shape, splits.num_classes)
    tests = [find_rates(build_hyperparameters(network.config), splits, seed=seed, device="cpu") for seed in SEEDS]
    return {
        "best": best,
        "found": [(test.low, test.high) for test in tests],
        "status": {
            str(factor): [judge_rates(family, test, *(factor * best * end for end in WINDOW)).status for test in tests]
            for factor in FACTORS
        },
    }


def summarise(parts: dict[str, Any]) -> dict[str, Any]:
    """Count false alarms and what was caught."""
    alarms, faults, windows = (
        {name: one for name, one in parts.items() if name.startswith(kind)} for kind in ("right", "fault", "rates")
    )
    caught: Counter[str] = Counter()
    for name, found in faults.items():
        fault = name.split("; ")[1]
        caught[fault] += any(one["check"] == FAULTS[fault][2] for one in found)
    return {
        "false_alarms": {"networks": len(alarms), "alarmed": {name: one for name, one in alarms.items() if one}},
        "caught": {
            fault: f"{number} of {sum(name.split('; ')[1] == fault for name in faults)}"
            for fault, number in caught.items()
        },
        "windows": {
            str(factor): dict(Counter(status for one in windows.values() for status in one["status"][str(factor)]))
            for factor in FACTORS
        },
    }


def main() -> None:
    """Do what the output file has not got, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with CIFAR-100's train.parquet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="where decoded images stay; nowhere without it")
    parser.add_argument("--only", default="", help="parts whose name contains this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts: dict[str, Any] = json.loads(given.output.read_text())["parts"] if given.output.exists() else {}
    with tempfile.TemporaryDirectory(prefix="check-") as scratch:
        cache = given.cache or Path(scratch)
        digits = load_splits(DataSpec(name="digits"), cache)
        cifar = load_splits(DataSpec(name="cifar100", path=str(given.folder), labels="coarse"), cache)
        few = dataclasses.replace(cifar, train=cifar.train[:SOME], validation=cifar.validation[:SOME], order=None)
        images = {"digits": digits, "cifar100": few}
        work: dict[str, Callable[[], Any]] = {}
        for kind, splits in images.items():
            for seed in SEEDS:
                for family in FAMILIES:
                    work[f"right; {family}; {kind}; {seed}"] = lambda f=family, s=splits, n=seed: check(f, s, n)
        for fault in FAULTS:
            for family in PLANTED_IN:
                for seed in SEEDS:
                    work[f"fault; {fault}; {family}; {seed}"] = lambda a=fault, f=family, n=seed: plant(a, f, digits, n)
        for family in FAMILIES:
            work[f"rates; {family}"] = lambda f=family: judge_windows(f, digits)
        for name, do in work.items():
            if name not in parts and given.only in name:
                parts[name] = do()
                print(name, json.dumps(parts[name]), flush=True)
                given.output.write_text(json.dumps({**summarise(parts), "parts": parts}, indent=1) + "\n")
    print(json.dumps(summarise(parts), indent=1))


if __name__ == "__main__":
    main()
