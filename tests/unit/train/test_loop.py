"""The training of one configuration: its numbers, and that it can be left and gone on with."""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tuner.errors import InputError, RunError, SpecError
from tuner.spec.hyperparameters import AdamW, Hyperparameters, LeNet, ResNet, Sgd, SimpleCnn
from tuner.spec.search import DataSpec
from tuner.train.checkpoint import build_config, load_model, save_model
from tuner.train.data import ImageSplits, load_splits
from tuner.train.loop import EpochResult, Trainer, derive_seed
from tuner.train.models.summary import summarise_architecture

CIFAR100 = Path(__file__).parents[3] / "../shared/data/cifar100"
CNN = SimpleCnn(depth=2, width=8)
MEASURED_OUTSIDE = {"seconds", "images_per_second", "peak_memory_bytes"}
EXAMPLES = {
    "simple_cnn": Hyperparameters(architecture=CNN, batch_size=16, l2=1e-3, dropout=0.3),
    "simple_cnn_batch_norm": Hyperparameters(architecture=SimpleCnn(depth=2, width=8, batch_norm=True), batch_size=16),
    "lenet": Hyperparameters(
        architecture=LeNet(width=0.5),
        optimizer=AdamW(weight_decay=0.1),
        l2=1e-3,
        learning_rate_decay="cosine",
        dropout=0.2,
        batch_size=16,
    ),
    "resnet": Hyperparameters(
        architecture=ResNet(depth=8, width=4),
        optimizer=Sgd(momentum=0.8, nesterov=True),
        learning_rate_decay="step",
        dropout=0.5,
        batch_size=16,
    ),
    "plain_sgd": Hyperparameters(architecture=LeNet(width=0.5), optimizer=Sgd(momentum=0.0), batch_size=16),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def get_numbers(results: list[EpochResult]) -> list[dict[str, Any]]:
    """All that an epoch measured but time."""
    timeless = [dataclasses.asdict(result) for result in results]
    return [{k: v for k, v in one.items() if k not in MEASURED_OUTSIDE} for one in timeless]


def test_what_the_network_costs_is_measured_as_it_is_listed(stripes: ImageSplits) -> None:
    (result,) = Trainer(EXAMPLES["resnet"], stripes, max_epochs=1, seed=0).epochs()
    layers = summarise_architecture(ResNet(depth=8, width=4), stripes.image_shape, stripes.num_classes)
    assert result.parameters == sum(layer.num_parameters for layer in layers) > 1000
    assert result.multiply_adds == sum(layer.num_multiply_adds for layer in layers) > 1000


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("left_after", [1, 3])
def test_a_restored_training_yields_the_very_same_numbers(
    name: str, left_after: int, stripes: ImageSplits, tmp_path: Path
) -> None:
    whole = Trainer(EXAMPLES[name], stripes, max_epochs=5, seed=3)
    expected = list(whole.epochs())
    left = Trainer(EXAMPLES[name], stripes, max_epochs=5, seed=3)
    first = list(itertools.islice(left.epochs(), left_after))
    left.save(tmp_path / "last.pt")

    again = Trainer(EXAMPLES[name], stripes, max_epochs=5, seed=3)
    again.restore(tmp_path / "last.pt")
    assert again.epoch == left_after
    assert again.history == first
    list(again.epochs())
    assert get_numbers(again.history) == get_numbers(expected)
    states = [trainer.classifier.state_dict() for trainer in (whole, again)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_restored_training_forgets_what_it_did_before(stripes: ImageSplits, tmp_path: Path) -> None:
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=4, seed=0)
    epochs = trainer.epochs()
    next(epochs)
    trainer.save(tmp_path / "first.pt")
    expected = list(epochs)
    trainer.restore(tmp_path / "first.pt")
    assert get_numbers(list(trainer.epochs())) == get_numbers(expected)


def test_seeds_give_other_numbers_and_the_same_seed_the_same(stripes: ImageSplits) -> None:
    runs = [list(Trainer(EXAMPLES["simple_cnn"], stripes, max_epochs=2, seed=seed).epochs()) for seed in (1, 1, 2)]
    assert get_numbers(runs[0]) == get_numbers(runs[1])
    assert runs[0][0].train_loss != runs[2][0].train_loss


def test_training_leaves_the_global_random_numbers_alone(stripes: ImageSplits) -> None:
    before, before_numpy = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(Trainer(EXAMPLES["resnet"], stripes, max_epochs=2, seed=0).epochs())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == before_numpy  # noqa: NPY002


def test_every_image_is_seen_once_an_epoch_in_another_order(
    stripes: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=2, seed=0)
    seen: list[list[int]] = []
    gather = trainer.feed.gather
    monkeypatch.setattr(trainer.feed, "gather", lambda rows: (seen.append(rows.tolist()), gather(rows))[1])
    list(trainer.epochs())
    batches, last = seen[:5], seen[6:11]
    assert sorted(map(len, batches)) == [13, 13, 13, 14, 14]
    for epoch in (batches, last):
        assert sorted(itertools.chain(*epoch)) == stripes.train.tolist()
    assert batches != last
    assert seen[5] == stripes.validation.tolist()


def test_every_epoch_drops_other_units(stripes: ImageSplits) -> None:
    trainer = Trainer(EXAMPLES["simple_cnn"], stripes, max_epochs=4, seed=0)
    seeds = {trainer._dropout_generator.initial_seed() for _ in trainer.epochs()}
    assert len(seeds) == 4


def test_measures_are_those_of_the_network(stripes: ImageSplits) -> None:
    trainer = Trainer(EXAMPLES["resnet"], stripes, max_epochs=1, seed=0)
    (result,) = trainer.epochs()
    rows = stripes.validation
    with torch.no_grad():
        images = torch.tensor(stripes.images[rows]).permute(0, 3, 1, 2)
        logits = trainer.classifier.eval()(images)
    labels = torch.tensor(stripes.labels[rows])
    assert result.val_loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.val_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_training_measures_are_means_over_images_as_seen(stripes: ImageSplits) -> None:
    # steps too small to change a weight: what is seen while training is what the first weights give
    frozen = Hyperparameters(architecture=CNN, learning_rate=1e-30, l2=0.5, batch_size=16)
    trainer = Trainer(frozen, stripes, max_epochs=1, seed=0)
    (result,) = trainer.epochs()
    with torch.no_grad():
        logits = trainer.classifier(torch.tensor(stripes.images[stripes.train]).permute(0, 3, 1, 2))
        convolutions = [m for m in trainer.classifier.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        l2_term = 0.25 * sum(layer.weight.square().sum().item() for layer in convolutions)
    labels = torch.tensor(stripes.labels[stripes.train])
    assert result.train_loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.train_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert result.train_loss_with_l2 - result.train_loss == pytest.approx(l2_term, rel=1e-5)


def test_time_is_read_from_the_clock_that_was_given(stripes: ImageSplits) -> None:
    ticks = iter([10.0, 12.0, 15.0])
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=1, seed=0, clock=lambda: next(ticks))
    (result,) = trainer.epochs()
    assert (result.epoch, result.seconds, result.images_per_second) == (1, 5.0, 67 / 2)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("constant", [1, 1, 1, 1]), ("step", [1, 1, 0.1, 0.01]), ("cosine", [1, 0.8536, 0.5, 0.1464])],
)
def test_the_learning_rate_of_an_epoch_is_that_of_its_first_step(
    decay: str, expected: list[float], stripes: ImageSplits
) -> None:
    hyperparameters = EXAMPLES["simple_cnn"].model_copy(update={"learning_rate_decay": decay, "learning_rate": 0.2})
    rates = [result.learning_rate / 0.2 for result in Trainer(hyperparameters, stripes, max_epochs=4, seed=0).epochs()]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_a_loss_that_is_not_finite_ends_the_training(stripes: ImageSplits, tmp_path: Path) -> None:
    wild = Hyperparameters(architecture=LeNet(activation="relu"), learning_rate=100.0, batch_size=1)
    trainer = Trainer(wild, stripes, max_epochs=50, seed=0)
    results = list(trainer.epochs())
    assert len(results) < 50
    assert not results[-1].is_finite
    assert all(result.is_finite for result in results[:-1])
    last = dataclasses.asdict(results[-1])
    measures = ["train_loss", "train_loss_with_l2", "train_accuracy", "val_loss", "val_accuracy"]
    assert all(math.isnan(last[name]) for name in measures)
    trainer.save(tmp_path / "last.pt")
    again = Trainer(wild, stripes, max_epochs=50, seed=0)
    again.restore(tmp_path / "last.pt")
    assert (again.epoch, list(again.epochs())) == (len(results), [])


def test_a_loss_that_is_not_finite_ends_its_epoch_early(stripes: ImageSplits) -> None:
    wild = Hyperparameters(architecture=CNN, learning_rate=1.0, l2=1e38, batch_size=1)
    ticks = itertools.count()
    (result,) = Trainer(wild, stripes, max_epochs=3, seed=0, clock=lambda: float(next(ticks))).epochs()
    assert not result.is_finite
    assert result.images_per_second < len(stripes.train)


def test_batch_norm_refuses_batches_of_one_image(stripes: ImageSplits) -> None:
    single = Hyperparameters(architecture=SimpleCnn(batch_norm=True), batch_size=1)
    with pytest.raises(SpecError, match=r"batch_size: .* at least 2 images a batch, found 1 for 67"):
        Trainer(single, stripes, max_epochs=1, seed=0)
    assert list(Trainer(EXAMPLES["lenet"].model_copy(update={"batch_size": 1}), stripes, max_epochs=1, seed=0).epochs())
    with pytest.raises(ValueError, match="max_epochs must be at least 1, got 0"):
        Trainer(EXAMPLES["lenet"], stripes, max_epochs=0, seed=0)


def test_derived_seeds_are_all_different() -> None:
    seeds = [derive_seed(seed, epoch, purpose) for seed in range(20) for epoch in range(20) for purpose in range(3)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_checkpoint_that_is_cut_short_is_refused(share: float, stripes: ImageSplits, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=0)
    trainer.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunError, match=r"last\.pt: a whole checkpoint was expected"):
        trainer.restore(path)
    with pytest.raises(InputError, match=r"last\.pt"):
        load_model(path)


def test_a_checkpoint_with_a_wrong_bit_is_refused(stripes: ImageSplits, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=0)
    trainer.save(path)
    content = bytearray(path.read_bytes())
    weight = next(trainer.classifier.parameters()).detach().numpy().tobytes()
    content[content.index(weight) + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(RunError, match="cut short or damaged"):
        trainer.restore(path)


def test_a_checkpoint_of_another_training_is_refused(stripes: ImageSplits, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=0).save(path)
    changed = EXAMPLES["lenet"].model_copy(update={"learning_rate": 0.5})
    other_data = dataclasses.replace(stripes, identity="dots")
    for trainer, message in [
        (Trainer(changed, stripes, max_epochs=3, seed=0), "learning_rate is 0.01 there and 0.5 here"),
        (Trainer(EXAMPLES["lenet"], stripes, max_epochs=4, seed=0), "max_epochs is 3 there and 4 here"),
        (Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=1), "seed is 0 there and 1 here"),
        (
            Trainer(EXAMPLES["lenet"], other_data, max_epochs=3, seed=0),
            "data is 'stripes' there and 'dots' here",
        ),
        (
            Trainer(EXAMPLES["resnet"], stripes, max_epochs=3, seed=0),
            "architecture is 'lenet' there and 'resnet' here",
        ),
    ]:
        with pytest.raises(RunError, match=message):
            trainer.restore(path)


def test_files_that_are_no_checkpoint_are_refused(stripes: ImageSplits, tmp_path: Path) -> None:
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=0)
    with pytest.raises(RunError, match=r"none\.pt: .* missing"):
        trainer.restore(tmp_path / "none.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(RunError, match=r"other\.pt: a file of the format"):
        trainer.restore(tmp_path / "other.pt")
    save_model(trainer.classifier, trainer.description, tmp_path / "model.pt")
    with pytest.raises(RunError, match="this is only a model"):
        trainer.restore(tmp_path / "model.pt")
    torch.save({"format": "tuner model 1", "config": {"architecture": "vgg"}}, tmp_path / "unknown.pt")
    with pytest.raises(InputError, match=r"unknown\.pt: a model of this version"):
        load_model(tmp_path / "unknown.pt")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "tuner model 1", "config": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(InputError, match=r"harmful\.pt"):
        load_model(tmp_path / "harmful.pt")
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_that_cannot_be_written_is_explained(stripes: ImageSplits, tmp_path: Path) -> None:
    trainer = Trainer(EXAMPLES["lenet"], stripes, max_epochs=3, seed=0)
    with pytest.raises(RunError, match="cannot be saved"):
        trainer.save(tmp_path / "nowhere" / "last.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="cannot be saved"):
        trainer.save(tmp_path / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_saved_model_scores_as_the_trained_one(name: str, stripes: ImageSplits, tmp_path: Path) -> None:
    trainer = Trainer(EXAMPLES[name], stripes, max_epochs=1, seed=0)
    list(trainer.epochs())
    trainer.save(tmp_path / "last.pt")
    save_model(trainer.classifier, trainer.description, tmp_path / "model.pt")
    images = torch.tensor(stripes.images[:9]).permute(0, 3, 1, 2)
    for path in (tmp_path / "last.pt", tmp_path / "model.pt"):
        classifier, description = load_model(path)
        assert torch.equal(classifier(images), trainer.classifier.eval()(images))
        assert description == trainer.description
    assert description.class_names == ("a", "b", "c")
    assert description.hyperparameters == EXAMPLES[name]
    assert (tmp_path / "model.pt").stat().st_size < (tmp_path / "last.pt").stat().st_size


def test_a_config_names_every_value() -> None:
    config = build_config(EXAMPLES["resnet"])
    assert config["architecture"] == "resnet"
    assert config["architecture.resnet.unit"] == "original"
    assert config["optimizer.sgd.nesterov"] is True
    assert config["learning_rate"] == 0.01


def test_digits_are_learned_in_a_few_epochs(digits: ImageSplits) -> None:
    hyperparameters = Hyperparameters(architecture=SimpleCnn(depth=2), learning_rate=0.05, batch_size=32)
    results = list(Trainer(hyperparameters, digits, max_epochs=4, seed=0).epochs())
    assert max(result.val_accuracy for result in results) >= 0.9
    assert results[-1].train_loss < results[0].train_loss


@pytest.mark.skipif(not CIFAR100.exists(), reason="the real CIFAR-100 is not at ../shared/data/cifar100")
def test_real_photographs_are_learned_above_chance(tmp_path: Path) -> None:
    rows = next(pq.ParquetFile(CIFAR100 / "train.parquet").iter_batches(1500))
    few = pa.Table.from_batches([rows.slice(0, 1500)])
    pq.write_table(few, tmp_path / "train.parquet")
    splits = load_splits(DataSpec(name="parquet", path=str(tmp_path), label_column="coarse_label"), tmp_path / "cache")
    assert (splits.image_shape, splits.num_classes) == ((32, 32, 3), 20)
    assert splits.class_names[0] == "aquatic_mammals"
    hyperparameters = Hyperparameters(architecture=CNN, learning_rate=0.02, batch_size=32)
    results = list(Trainer(hyperparameters, splits, max_epochs=3, seed=0).epochs())
    assert max(result.val_accuracy for result in results) > 0.1
