"""What training takes: measured, and worked out for others."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from tuner.errors import SpecError
from tuner.spec.space import Config
from tuner.train.cost import Cost, CostModel, Images, measure_cost
from tuner.train.data import ImageSplits
from tuner.train.loop import EVALUATION_VALUES

IMAGES = Images((8, 8, 1), 10, 1000, 200)


def cnn(depth: int, width: int, batch_size: int = 32) -> Config:
    own = {"depth": depth, "width": width}
    return {
        "architecture": "simple_cnn",
        **{f"architecture.simple_cnn.{key}": value for key, value in own.items()},
        "batch_size": batch_size,
    }


@pytest.mark.usefixtures("one_thread")  # several wait for each other by working
def test_an_epoch_is_measured_in_whole_from_a_part_of_it(digits: ImageSplits, tmp_path: Path) -> None:
    began = time.process_time()  # which does not go on while others have the machine
    cost = measure_cost(cnn(2, 8), digits, folder=tmp_path, seed=0, clock=time.process_time)
    took = time.process_time() - began
    assert 0 < cost.train_s < took
    assert 0 < cost.rest_s < took
    assert cost.state_bytes == (tmp_path / "last.pt").stat().st_size > cost.model_bytes > 0
    assert cost.memory_bytes > 50e6


def test_all_seconds_are_those_of_the_clock_that_is_passed(digits: ImageSplits, tmp_path: Path) -> None:
    ticks = itertools.count()  # a second whenever it is looked at
    cost = measure_cost(cnn(2, 8), digits, folder=tmp_path, seed=0, clock=lambda: float(next(ticks)))
    assert cost.rest_s >= 1
    assert (2 * cost.rest_s).is_integer()  # a median of two


def test_images_of_which_one_fills_a_batch_of_validation_are_measured(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 300, 300, 3), dtype=np.uint8)
    assert images[0].size > EVALUATION_VALUES["cpu"]
    rows, mean, std = np.arange(20), np.full(3, 127.0), np.full(3, 70.0)
    large = ImageSplits(images, rows % 2, rows[:16], rows[16:], mean, std, ("a", "b"), "large")
    cost = measure_cost(cnn(1, 1, 4), large, folder=tmp_path, seed=0)
    assert cost.train_s > 0
    assert cost.rest_s > 0


def test_what_would_diverge_is_measured_as_anything_else(digits: ImageSplits, tmp_path: Path) -> None:
    cost = measure_cost({**cnn(2, 16), "learning_rate": 10.0}, digits, folder=tmp_path, seed=0)
    assert cost.train_s > 0
    assert cost.rest_s > 0


def test_a_configuration_that_a_trial_would_fail_with_fails_here_too(digits: ImageSplits, tmp_path: Path) -> None:
    config = {"architecture": "resnet", "architecture.resnet.depth": 8, "batch_size": 1}
    with pytest.raises(SpecError, match="at least 2 images a batch"):
        measure_cost(config, digits, folder=tmp_path, seed=0)


def true_cost(model: CostModel, config: Config) -> Cost:
    """Costs as the parts of the model would make them."""
    size = model.size(config)
    steps = -(-1000 // int(config["batch_size"]))
    train_s = 1e-3 * steps + 2e-4 * steps * size.layers + 1e-9 * 1000 * size.multiply_adds
    return Cost(0.1, train_s, 0.05 + 1e-6 * size.parameters, 4e8 + 40 * size.parameters, 8 * size.parameters, 1e4)


def test_others_cost_what_their_size_and_batches_say() -> None:
    some = [cnn(d, w, b) for d, w, b in itertools.product((1, 4), (8, 64), (32, 128))] + [cnn(2, 20, 64), cnn(3, 9, 32)]
    blank = CostModel([(cnn(1, 8), Cost(1, 1, 1, 1, 1, 1))], IMAGES)
    model = CostModel([(config, true_cost(blank, config)) for config in some], IMAGES)
    assert model.spread < 0.02
    for config in (cnn(2, 32, 64), cnn(3, 48, 128), cnn(1, 12, 32)):
        foretold, true = model.foretell(config), true_cost(model, config)
        assert foretold.train_s == pytest.approx(true.train_s, rel=0.05)
        assert foretold.rest_s == pytest.approx(true.rest_s, rel=0.05)
        assert foretold.state_bytes == pytest.approx(true.state_bytes, rel=0.05)


def test_a_family_that_was_not_measured_is_foretold_by_the_others() -> None:
    model = CostModel([(cnn(1, 8), Cost(1, 2, 3, 4, 5, 6)), (cnn(4, 64), Cost(2, 20, 6, 8, 50, 60))], IMAGES)
    foretold = model.foretell({"architecture": "lenet", "batch_size": 32})
    assert 1 < foretold.train_s < 25
    assert model.foretell(cnn(1, 8)).train_s == pytest.approx(2, rel=0.01)


def test_the_spread_is_how_far_off_each_is_foretold_by_the_others_alone() -> None:
    few = [cnn(1, 8, 32), cnn(4, 8, 32), cnn(1, 64, 128)]  # three numbers, which the parts fit wholly
    blank = CostModel([(cnn(1, 8), Cost(1, 1, 1, 1, 1, 1))], IMAGES)
    model = CostModel([(config, true_cost(blank, config)) for config in few], IMAGES)
    for config in few:
        assert model.foretell(config).train_s == pytest.approx(true_cost(blank, config).train_s, rel=0.01)
    assert model.spread > 0.05


def test_an_optimizer_that_keeps_two_numbers_for_a_weight_takes_their_room() -> None:
    sgd, adamw = ({**cnn(2, width), "optimizer": name} for name in ("sgd", "adamw") for width in (8,))
    wide = {**sgd, "architecture.simple_cnn.width": 64}
    blank = CostModel([(sgd, Cost(1, 1, 1, 1, 1, 1))], IMAGES)

    def saved(config: Config, numbers: int) -> tuple[Config, Cost]:
        return config, Cost(1, 1, 1, 1, 4 * numbers * blank.size(config).parameters, 1)

    model = CostModel([saved(sgd, 2), saved(wide, 2), saved(adamw, 3)], IMAGES)
    foretold = model.foretell({**wide, "optimizer": "adamw"}).state_bytes
    assert foretold == pytest.approx(3 * 4 * blank.size(wide).parameters, rel=0.05)
