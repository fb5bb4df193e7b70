"""One trial trained by several workers through Ray Train, on CPUs with gloo."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tuner.errors import LostWorkerError, RunError
from tuner.execute.cluster import connected
from tuner.execute.distributed import SCRATCH, train_together
from tuner.execute.task import LAST, MODEL, TrialTask
from tuner.execute.trial import train_alone
from tuner.spec.search import DataSpec, Objective
from tuner.spec.space import Scalar
from tuner.train.checkpoint import load_model
from tuner.train.data import load_splits
from tuner.train.run import use_threads

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
CONFIG: dict[str, Scalar] = {
    "architecture": "simple_cnn",
    "architecture.simple_cnn.depth": 2,
    "architecture.simple_cnn.width": 8,
    "learning_rate": 0.03,
    "l2": 1e-4,
    "batch_size": 32,
}
TIMES = {"seconds", "images_per_second", "timestamp", "peak_memory_bytes", "micro_batch", "execution"}


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    with connected(None, Thread(target=lambda: None)) as nodes:
        if sum(node.get("CPU", 0) for node in nodes) < 2:
            pytest.skip("two workers need two CPUs")
        yield


def make_task(folder: Path, cache: Path, **config: Scalar) -> TrialTask:
    return TrialTask(
        stage="only",
        number=0,
        config=CONFIG | config,
        seed=3,
        max_epochs=3,
        objective=Objective(),
        data=DataSpec(name="digits"),
        folder=folder,
        cache=cache,
        workers=2,
    )


def get_numbers(epochs: list[Any]) -> list[list[float]]:
    return [
        [value for name, value in epoch.items() if name not in TIMES and not name.startswith("system/")]
        for epoch in epochs
    ]


@pytest.mark.usefixtures("ray_of_two")
def test_two_workers_train_as_one_does_and_leave_nothing_behind(tmp_path: Path, cache: Path) -> None:
    together = list(train_together(make_task(tmp_path / "two", cache)))
    use_threads(1)
    alone = list(train_alone(make_task(tmp_path / "one", cache)))
    assert [epoch["epoch"] for epoch in together] == [1, 2, 3]
    np.testing.assert_allclose(get_numbers(together), get_numbers(alone), rtol=1e-3)
    assert together[0]["execution"]["workers"] == 2
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted([LAST, MODEL])


@pytest.mark.usefixtures("ray_of_two")
@pytest.mark.slow
def test_a_trial_that_is_stopped_ends_its_workers(tmp_path: Path, cache: Path) -> None:
    epochs = train_together(make_task(tmp_path, cache))
    assert next(epochs)["epoch"] == 1
    epochs.close()
    assert not (tmp_path / SCRATCH).exists()
    # what it left is gone on from
    with contextlib.closing(train_together(make_task(tmp_path, cache))) as again:
        assert [next(again)["epoch"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.usefixtures("ray_of_two")
@pytest.mark.slow
def test_averaged_running_statistics_are_those_that_are_saved(tmp_path: Path, cache: Path) -> None:
    config: dict[str, Scalar] = {"architecture.simple_cnn.batch_norm": True, "weight_average": 0.9}
    best = max(train_together(make_task(tmp_path, cache, **config)), key=lambda epoch: epoch["val_accuracy"])
    classifier, _ = load_model(tmp_path / MODEL)
    splits = load_splits(DataSpec(name="digits"), cache)
    rows = splits.validation
    with torch.inference_mode():
        scores = classifier.eval()(torch.tensor(splits.images[rows]).permute(0, 3, 1, 2))
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(splits.labels[rows]).long())
    assert float(loss) == pytest.approx(best["val_loss"], rel=1e-4)


@pytest.mark.usefixtures("ray_of_two")
def test_what_a_worker_fails_with_is_told(tmp_path: Path, cache: Path) -> None:
    config: dict[str, Scalar] = {"architecture.simple_cnn.batch_norm": True, "batch_size": 3}
    with pytest.raises(RunError, match=r"2 workers together: .*batch normalisation needs at least 2 images a batch"):
        list(train_together(make_task(tmp_path, cache, **config)))


@pytest.mark.usefixtures("ray_of_two")
def test_a_worker_that_dies_is_told_from_a_training_that_fails(tmp_path: Path, cache: Path) -> None:
    task = dataclasses.replace(make_task(tmp_path, cache), max_epochs=200)
    epochs = train_together(task)
    assert next(epochs)["epoch"] == 1
    workers = [process for process in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in str(process.cmdline())]
    workers[-1].kill()
    with pytest.raises(LostWorkerError, match="2 workers together: one of them died"):
        list(epochs)
