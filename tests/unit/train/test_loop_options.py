"""What a training may be told beside its network: splitting, averaging, growing data, memory, precision, workers."""

import dataclasses
import itertools
import math
import multiprocessing
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tuner.errors import OutOfMemoryError, SpecError
from tuner.spec.hyperparameters import AdamW, HogSvm, Hyperparameters, LeNet, Muon, ResNet, RmsProp, SimpleCnn
from tuner.train.checkpoint import load_model
from tuner.train.data import ImageSplits
from tuner.train.loop import EpochResult, Trainer
from tuner.train.memory import explained
from tuner.train.workers import Workers

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SimpleCnn(depth=2, width=8)
TIMES = {"seconds", "images_per_second", "peak_memory_bytes", "micro_batch"}


def train(splits: ImageSplits, epochs: int = 3, **options: Any) -> list[EpochResult]:
    own = {key: options.pop(key) for key in ("is_growing", "workers") if key in options}
    given = Hyperparameters(**{"architecture": SMALL, "batch_size": 16, **options})
    return list(Trainer(given, splits, max_epochs=epochs, seed=0, **own).epochs())


def get_numbers(results: list[EpochResult]) -> list[list[float]]:
    return [[v for k, v in dataclasses.asdict(one).items() if k not in TIMES and v is not None] for one in results]


def test_a_batch_in_parts_gives_the_same_training(stripes: ImageSplits) -> None:
    whole, parts = train(stripes, l2=1e-3), train(stripes, l2=1e-3, micro_batch=5)
    np.testing.assert_allclose(get_numbers(parts), get_numbers(whole), rtol=1e-4)
    assert {one.micro_batch for one in parts} == {5}


def let_memory_end(trainer: Trainer, most_images: int) -> list[int]:
    """Make any forward pass of more images fail as torch does, and note the sizes of all."""
    sizes: list[int] = []

    def check(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if trainer.classifier.training and len(inputs[0]) > most_images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer.classifier.register_forward_pre_hook(check)
    return sizes


def test_a_batch_that_does_not_fit_is_split_and_the_training_is_the_same(stripes: ImageSplits) -> None:
    given = Hyperparameters(architecture=SMALL, batch_size=16)
    trainer = Trainer(given, stripes, max_epochs=3, seed=0)
    sizes = let_memory_end(trainer, 5)
    results = list(trainer.epochs())
    np.testing.assert_allclose(get_numbers(results), get_numbers(train(stripes)), rtol=1e-4)
    assert {one.micro_batch for one in results} == {3}
    assert sum(size > 5 for size in sizes[:20]) == 2  # the whole batch and its half, once


def test_validation_images_that_do_not_fit_together_are_scored_in_halves(stripes: ImageSplits) -> None:
    given = Hyperparameters(architecture=SMALL, batch_size=16)
    trainer = Trainer(given, stripes, max_epochs=3, seed=0)
    sizes: list[int] = []

    def check(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if not trainer.classifier.training:
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer.classifier.register_forward_pre_hook(check)
    np.testing.assert_allclose(get_numbers(list(trainer.epochs())), get_numbers(train(stripes)), rtol=1e-4)
    assert sizes[:3] == [23, 12, 6]


def test_a_network_that_does_not_fit_at_all_says_what_it_needed(stripes: ImageSplits) -> None:
    given = Hyperparameters(architecture=SimpleCnn(width=8, batch_norm=True), batch_size=16)
    trainer = Trainer(given, stripes, max_epochs=3, seed=0)
    let_memory_end(trainer, 1)  # which batch normalisation cannot do with
    with pytest.raises(OutOfMemoryError, match=r"GiB were in use at the peak .*2\.00 GiB.*set a smaller micro_batch"):
        next(trainer.epochs())


REAL_EXHAUSTION = """
import numpy as np, resource, torch
torch.set_num_threads(1)
from tuner.errors import OutOfMemoryError
from tuner.spec.hyperparameters import Hyperparameters, SimpleCnn
from tuner.train.data import ImageSplits
from tuner.train.loop import Trainer
images = np.zeros((96, 64, 64, 3), np.uint8)
rows = np.arange(96)
splits = ImageSplits(images, rows % 3, rows[:64], rows[64:], np.zeros(3), np.ones(3), ("a", "b", "c"), "zeros")
def build(width):
    given = Hyperparameters(architecture=SimpleCnn(depth=2, width=width), batch_size=64)
    return Trainer(given, splits, max_epochs=1, seed=0)
next(build(4).epochs())  # libraries take what they need
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300 * 2**20, -1))
wide = next(build(256).epochs())  # a batch's first maps alone take 250 MB
assert wide.micro_batch < 64, wide
try:
    build(1024).epochs().__next__()
except OutOfMemoryError as error:
    print("refused:", error)
assert next(build(8).epochs()).micro_batch == 64
print("trained on")
"""


@pytest.mark.parametrize("kept", ["1024", "0"])  # with none kept, it is oneDNN that runs out
def test_real_memory_that_ends_splits_the_batch_and_the_process_trains_on(kept: str) -> None:
    command, environment = [sys.executable, "-c", REAL_EXHAUSTION], {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": kept}
    for _ in range(3):
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=120, env=os.environ | environment
        )
        if ended.returncode >= 0:  # in some 2% a signal: oneDNN itself follows a pointer to what it did not get
            break
    assert ended.stdout.splitlines()[-1:] == ["trained on"], ended.stderr[-2000:]


def test_the_average_of_the_weights_is_validated_saved_and_restored(stripes: ImageSplits, tmp_path: Path) -> None:
    given = Hyperparameters(architecture=SMALL, batch_size=16, weight_average=0.9)
    whole = Trainer(given, stripes, max_epochs=4, seed=0)
    expected = list(whole.epochs())
    assert get_numbers(expected)[0] != get_numbers(train(stripes, epochs=4))[0]

    left = Trainer(given, stripes, max_epochs=4, seed=0)
    list(itertools.islice(left.epochs(), 2))
    left.save(tmp_path / "last.pt")
    again = Trainer(given, stripes, max_epochs=4, seed=0)
    again.restore(tmp_path / "last.pt")
    list(again.epochs())
    assert get_numbers(again.history) == get_numbers(expected)

    again.save_model(tmp_path / "model.pt")
    classifier, _ = load_model(tmp_path / "model.pt")
    rows = stripes.validation
    with torch.inference_mode():
        logits = classifier(torch.tensor(stripes.images[rows]).permute(0, 3, 1, 2))
    loss = nn.functional.cross_entropy(logits, torch.tensor(stripes.labels[rows])).item()
    assert loss == pytest.approx(expected[-1].val_loss, rel=1e-5)


def test_a_training_on_growing_data_sees_more_images_each_epoch(
    stripes: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Hyperparameters(architecture=LeNet(width=0.5), batch_size=10)
    ordered = dataclasses.replace(stripes, order=stripes.train[::-1].copy())
    trainer = Trainer(given, ordered, max_epochs=4, seed=0, is_growing=True)
    seen: list[list[int]] = []
    gather = trainer.feed.gather
    monkeypatch.setattr(trainer.feed, "gather", lambda rows: (seen.append(rows.tolist()), gather(rows))[1])
    for epoch, _ in enumerate(trainer.epochs(), start=1):
        *batches, validation = seen
        num_images = math.ceil(67 * epoch / 4)
        assert sorted(itertools.chain(*batches)) == sorted(ordered.order[:num_images])
        assert len(batches) == math.ceil(num_images / 10)
        assert validation == stripes.validation.tolist()
        seen.clear()


def test_a_learning_rate_falls_over_all_steps_of_growing_data(stripes: ImageSplits) -> None:
    grown = train(stripes, epochs=4, is_growing=True, learning_rate_decay="cosine", batch_size=1, learning_rate=1e-3)
    # 17, 34, 51 and 67 steps: the last epoch begins after 102 of 169
    expected = (1 + math.cos(math.pi * 102 / 169)) / 2
    assert grown[-1].learning_rate == pytest.approx(1e-3 * expected)


def test_a_hopeless_loss_ends_a_training_although_it_is_finite(stripes: ImageSplits) -> None:
    batch_norm = SimpleCnn(depth=2, width=8, batch_norm=True, head=8)
    results = train(stripes, epochs=6, architecture=batch_norm, learning_rate=20.0, optimizer=AdamW())
    assert len(results) <= 2
    assert not results[-1].is_finite
    assert math.isnan(results[-1].val_accuracy)


def test_the_share_of_the_l2_term_is_that_of_the_loss(stripes: ImageSplits) -> None:
    (result,) = train(stripes, epochs=1, l2=0.05)
    term = result.train_loss_with_l2 - result.train_loss
    assert result.l2_share == pytest.approx(term / result.train_loss_with_l2)
    assert 0.01 < result.l2_share < 0.9
    assert train(stripes, epochs=1)[0].l2_share == 0


def test_the_gradient_and_the_step_are_measured(stripes: ImageSplits) -> None:
    # one step an epoch without momentum: its length is the learning rate times the gradient's
    options = {"architecture": LeNet(width=0.5), "batch_size": 67, "learning_rate": 0.01}
    (result,) = train(stripes, epochs=1, optimizer=RmsProp(smoothing=0.0), **options)
    trainer = Trainer(Hyperparameters(**options), stripes, max_epochs=1, seed=0)
    weights = [one for name, one in trainer.classifier.named_parameters() if one.ndim > 1]
    count, length = sum(one.numel() for one in weights), math.sqrt(sum(one.square().sum().item() for one in weights))
    # each value moves by the learning rate, as its gradient is divided by itself
    assert result.update_ratio == pytest.approx(0.01 * math.sqrt(count) / length, rel=0.01)
    (clipped,) = train(stripes, epochs=1, gradient_clip=1e-3, **options)
    (plain,) = train(stripes, epochs=1, **options)
    assert clipped.gradient_norm == pytest.approx(plain.gradient_norm)
    assert clipped.update_ratio < plain.update_ratio


def test_top_five_and_superclass_accuracy_are_those_of_the_network(stripes: ImageSplits) -> None:
    labels = np.arange(90) % 9
    superclasses = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    nine = dataclasses.replace(
        stripes, labels=labels, class_names=tuple("abcdefghi"), superclasses=superclasses, identity="nine"
    )
    trainer = Trainer(Hyperparameters(architecture=SMALL, batch_size=16), nine, max_epochs=1, seed=0)
    (result,) = trainer.epochs()
    rows = nine.validation
    with torch.inference_mode():
        scores = trainer.classifier.eval()(torch.tensor(nine.images[rows]).permute(0, 3, 1, 2)).numpy()
    right = np.argsort(-scores, axis=1)[:, :5] == labels[rows, None]
    assert result.val_top5_accuracy == pytest.approx(right.any(axis=1).mean())
    found = superclasses[scores.argmax(axis=1)] == superclasses[labels[rows]]
    assert result.val_superclass_accuracy == pytest.approx(found.mean())
    (three,) = train(stripes, epochs=1)
    assert three.val_top5_accuracy is None
    assert three.val_superclass_accuracy is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_the_same(precision: str, stripes: ImageSplits) -> None:
    half, full = (train(stripes, epochs=4, precision=one, learning_rate=0.05) for one in (precision, "float32"))
    assert half[-1].val_loss == pytest.approx(full[-1].val_loss, rel=0.1)
    assert half[-1].train_loss != full[-1].train_loss


def test_a_step_left_out_has_no_length_and_its_images_keep_their_l2_term(stripes: ImageSplits) -> None:
    trainer = Trainer(
        Hyperparameters(architecture=SMALL, batch_size=16, precision="float16", l2=1e-2),
        stripes,
        max_epochs=1,
        seed=0,
    )
    trainer.stepper._scaler.load_state_dict({"scale": 1e38, "good_steps": 0})  # overflows at every step of the epoch
    (result,) = trainer.epochs()
    assert result.is_finite
    assert math.isnan(result.gradient_norm) and math.isnan(result.update_ratio)
    assert result.l2_share > 0


def test_the_order_of_memory_changes_nothing_but_speed(stripes: ImageSplits) -> None:
    resnet = ResNet(depth=8, width=4)
    on, off = (train(stripes, architecture=resnet, channels_last=last) for last in (True, False))
    np.testing.assert_allclose(get_numbers(on), get_numbers(off), rtol=1e-2)


@pytest.mark.parametrize("optimizer", [AdamW(), RmsProp(), Muon()])
def test_every_optimizer_learns(optimizer: AdamW | RmsProp | Muon, stripes: ImageSplits) -> None:
    results = train(stripes, epochs=8, optimizer=optimizer, learning_rate=0.005)
    assert results[-1].val_accuracy > 0.9


def test_a_support_vector_machine_trains_in_the_same_loop(stripes: ImageSplits) -> None:
    results = train(
        stripes,
        epochs=10,
        architecture=HogSvm(cell_size=2, C=10.0),
        learning_rate=0.5,
        weight_average=0.9,
        learning_rate_decay="cosine",
    )
    assert results[0].train_loss < 1
    assert results[-1].train_loss < results[0].train_loss
    assert results[-1].l2_share > 0
    assert results[-1].val_accuracy > 0.6


def test_augmentation_and_smoothing_are_part_of_training_alone(stripes: ImageSplits) -> None:
    plain, changed = train(stripes), train(stripes, crop_padding=1, flip=True, mixup=0.4, label_smoothing=0.1)
    assert changed[-1].train_loss > plain[-1].train_loss
    again = train(stripes, crop_padding=1, flip=True, mixup=0.4, label_smoothing=0.1)
    assert get_numbers(again) == get_numbers(changed)


def be_a_worker(rank: int, path: Path, splits: ImageSplits, options: dict[str, Any], queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    results = train(splits, workers=Workers(rank, 2), **options)
    queue.put((rank, get_numbers(results)))
    torch.distributed.destroy_process_group()


def test_two_workers_train_as_one_does(stripes: ImageSplits, tmp_path: Path) -> None:
    options = {"l2": 1e-3, "gradient_clip": 0.5, "micro_batch": 3, "learning_rate_decay": "cosine"}
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (tmp_path / "rendezvous", stripes, options, queue)
    workers = [context.Process(target=be_a_worker, args=(rank, *arguments)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = dict(queue.get(timeout=100) for _ in workers)
    for worker in workers:
        worker.join(timeout=20)
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], get_numbers(train(stripes, **options)), rtol=1e-4)


def test_workers_without_an_image_a_step_are_refused(stripes: ImageSplits) -> None:
    with pytest.raises(SpecError, match=r"a step needs an image, found 2 for 67 training images on 3 workers"):
        train(stripes, batch_size=2, workers=Workers(0, 3))


def test_small_batches_of_a_later_epoch_are_refused_before_the_first(stripes: ImageSplits) -> None:
    # 17 images in 5 steps, 34 in 9, 51 in 13, 67 in 17: the first epoch alone would do
    with pytest.raises(SpecError, match=r"a step needs an image, found 4 for 17 training images on 4 workers"):
        train(stripes, epochs=4, batch_size=4, is_growing=True, workers=Workers(0, 4))


@pytest.mark.parametrize(
    "text", ["could not create a primitive", "std::bad_alloc", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"]
)
def test_a_batch_is_split_whichever_library_says_that_memory_ended(stripes: ImageSplits, text: str) -> None:
    trainer = Trainer(Hyperparameters(architecture=SMALL, batch_size=16), stripes, max_epochs=1, seed=0)

    def check(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if trainer.classifier.training and len(inputs[0]) > 7:
            raise RuntimeError(text)

    trainer.classifier.register_forward_pre_hook(check)
    try:
        assert next(trainer.epochs()).micro_batch == 7
        assert torch.backends.mkldnn.enabled == ("could not" not in text)
    finally:
        torch.backends.mkldnn.set_flags(True)


def test_an_error_of_memory_holds_no_tensor_of_the_frames_that_failed() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def fail() -> None:
        tensor = torch.ones(3)
        kept.append(weakref.ref(tensor))
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")

    with pytest.raises(OutOfMemoryError), explained(torch.device("cpu"), "do something"):
        fail()
    assert kept[0]() is None
