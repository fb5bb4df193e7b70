"""``tuner train``."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from tuner.cli import cli
from tuner.errors import InputError, RunError

CONFIG = """\
name: one
data: digits
config: {architecture: lenet, batch_size: 16, learning_rate: 100}
epochs: 3
seed: 0
"""


def train(folder: Path, cache: Path, *arguments: str) -> Result:
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    return CliRunner().invoke(cli, ["train", str(config), "--cache", str(cache), *arguments])


def test_a_folder_that_is_not_there_is_told_before_anything_is_trained(tmp_path: Path, cache: Path) -> None:
    done = train(tmp_path, cache, "--output", str(tmp_path / "nowhere" / "model.pt"))
    assert isinstance(done.exception, InputError)
    assert f"there is no folder {tmp_path / 'nowhere'}; make it" in str(done.exception)
    assert done.stdout == ""


def test_a_training_that_diverges_at_once_fails_and_saves_no_model(tmp_path: Path, cache: Path) -> None:
    done = train(tmp_path, cache, "--output", str(tmp_path / "model.pt"), "--json")
    assert isinstance(done.exception, RunError)
    assert "the training diverged at epoch 1, its loss" in str(done.exception)
    assert "; no model was saved; lower the learning rate" in str(done.exception)
    assert not (tmp_path / "model.pt").exists()
    (measured,) = map(json.loads, done.stdout.splitlines())
    assert (measured["epoch"], measured["train_loss"], measured["val_accuracy"]) == (1, None, None)
    assert "NaN" not in done.stdout


def test_a_training_that_diverges_later_fails_and_names_the_model_that_is_kept(tmp_path: Path, cache: Path) -> None:
    late = ("config.batch_size=64", "config.learning_rate_decay=one_cycle", "config.learning_rate=3", "epochs=4")
    model = tmp_path / "model.pt"
    done = train(tmp_path, cache, "--output", str(model), *(word for text in late for word in ("--set", text)))
    assert isinstance(done.exception, RunError)
    assert "the training diverged at epoch 2, its loss" in str(done.exception)
    assert f"; {model} has the model of epoch 1; lower the learning rate" in str(done.exception)
    assert model.exists()
    assert "best: val_accuracy" in done.stdout
