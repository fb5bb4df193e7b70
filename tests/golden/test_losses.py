"""Losses at a fixed seed: a change of the training that means no change of its numbers shows none here.

Written anew by ``python tests/golden/test_losses.py`` when a change means to change them.
"""

import json
import tempfile
from pathlib import Path

import pytest

from tuner.spec.search import DataSpec, Objective
from tuner.train.run import run_training, use_threads

GOLDEN = Path(__file__).with_name("losses.json")
CONFIGS = {
    "simple_cnn": {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 2, "learning_rate": 0.05, "l2": 1e-4},
    "lenet": {"architecture": "lenet", "learning_rate": 0.1, "dropout": 0.2, "batch_size": 32},
    "resnet": {"architecture": "resnet", "architecture.resnet.depth": 8, "learning_rate": 0.1, "l2": 1e-4},
    "adamw": {"architecture": "lenet", "optimizer": "adamw", "learning_rate": 0.003, "learning_rate_decay": "cosine"},
}


def measure(name: str, cache: Path) -> list[list[float]]:
    """Train two epochs on digits; training and validation loss of each."""
    use_threads(1)
    results = run_training(CONFIGS[name], DataSpec(name="digits"), Objective(), max_epochs=2, seed=0, cache=cache)
    return [[round(result.train_loss, 5), round(result.val_loss, 5)] for result, *_ in results]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_losses_are_those_that_were_written_down(name: str, cache: Path) -> None:
    # rounding differs from processor to processor, and training makes a little more of it
    assert measure(name, cache) == [pytest.approx(epoch, rel=0.01) for epoch in json.loads(GOLDEN.read_text())[name]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps({name: measure(name, Path(folder)) for name in CONFIGS}, indent=1) + "\n")
