"""One step of training: gradients of a batch, in as many parts as memory needs, and the optimizer's move."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import Hyperparameters
from tuner.train.acceleration import HALVINGS, Acceleration, LossScaler
from tuner.train.average import WeightAverage
from tuner.train.criterion import Criterion, count_correct
from tuner.train.memory import give_up_onednn, is_out_of_memory, release
from tuner.train.models import Classifier
from tuner.train.optimizers import add_l2_gradient, build_optimizer, clip_gradients, find_weights, measure_norm
from tuner.train.workers import Workers


class Batch(NamedTuple):
    """One worker's part of the images of a step.

    Attributes
    ----------
    images : uint8 or float tensor, shape (batch, channels, height, width), values 0 to 255
        Augmented.
    labels : int64 tensor, shape (batch,)
        Their classes.
    targets : int64 tensor, shape (batch,), or float tensor, shape (batch, num_classes)
        What is learned: the labels, smoothed or blended with others.
    size : int
        Images of the step on all workers together.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    size: int


class Measured(NamedTuple):
    """What a step saw.

    Attributes
    ----------
    sums : float64 tensor, shape (3,)
        The loss, the L2 term and whether the class was right, each summed over this worker's images.
    change : float tensor, shape (2,), or None
        The gradient's length, and the step's over the weights', where they were asked for; not of a step left out.
    """

    sums: Tensor
    change: Tensor | None


class Stepper:
    """A classifier with all that moves its weights.

    Parameters
    ----------
    classifier : Classifier
        On its device, in its memory format.
    hyperparameters : Hyperparameters
        The optimizer, the micro-batch, clipping and averaging.
    criterion : Criterion
        What is made small.
    acceleration : Acceleration
        How the device is used.
    workers : Workers
        Who takes each step together.

    Attributes
    ----------
    average : WeightAverage
        The weights' moving average, if there is one.
    micro_batch : int
        Most images at once; halved whenever memory runs out.
    """

    def __init__(
        self,
        classifier: Classifier,
        hyperparameters: Hyperparameters,
        criterion: Criterion,
        acceleration: Acceleration,
        workers: Workers,
    ) -> None:
        self.average = WeightAverage(classifier, hyperparameters.weight_average)
        self.micro_batch = min(hyperparameters.micro_batch or hyperparameters.batch_size, hyperparameters.batch_size)
        self._classifier = classifier
        self._clip = hyperparameters.gradient_clip
        self._criterion = criterion
        self._acceleration = acceleration
        self._workers = workers
        self._device = classifier.mean.device
        self._least_batch = find_least_batch(classifier)
        self._optimizer = build_optimizer(hyperparameters, classifier)
        self._weights = find_weights(classifier)
        self._scaler = LossScaler(is_needed=acceleration.precision == "float16")
        self._wrapped = workers.wrap(classifier, self._device)
        self._forward: Any = torch.compile(self._wrapped) if acceleration.compile else self._wrapped

    def take(self, batch: Batch, learning_rate: float, *, is_measured: bool) -> Measured:
        """Take one step.

        Parameters
        ----------
        batch : Batch
            What to learn from.
        learning_rate : float, at least 0
            Of this step.
        is_measured : bool
            Whether to measure the gradient's and the step's length, which costs a copy of the weights.

        Raises
        ------
        MemoryError
            If the smallest micro-batch does not fit into memory.
        RuntimeError
            If it does not on torch's own account, or torch fails.
        """
        before = [weight.detach().clone() for weight in self._weights] if is_measured else None
        while True:
            try:
                sums = self.add_gradients(batch)
                break
            except (RuntimeError, MemoryError) as error:
                most = min(self.micro_batch, len(batch.images))
                can_split = self._workers.is_alone and most >= 2 * self._least_batch
                if not is_out_of_memory(error) or not can_split:
                    raise
                give_up_onednn(error)
            # outside of except, whose error holds the tensors that did not fit
            self.micro_batch = min(self.micro_batch, len(batch.images)) // 2
            release(self._device)
        gradients = self._gradients()
        norm = torch.zeros((), device=self._device)
        is_sound = self._scaler.unscale(gradients)
        sums[1] = add_l2_gradient(self._weights, self._criterion.l2) * len(batch.images)
        if is_sound:
            if self._clip > 0:
                norm = clip_gradients(self._classifier.parameters(), self._clip)
            elif is_measured:
                norm = measure_norm(gradients)
            self._optimizer.step(learning_rate)
            self.average.update()
        if before is None or not is_sound:
            return Measured(sums, None)
        return Measured(sums, torch.stack([norm, _measure_change(before, self._weights)]))

    def add_gradients(self, batch: Batch) -> Tensor:
        """Compute the gradients of a batch's loss, a micro-batch after the other, and move nothing.

        Parameters
        ----------
        batch : Batch
            What to learn from.

        Returns
        -------
        float64 tensor, shape (3,)
            As of `Measured`, the L2 term being zero.
        """
        self._classifier.zero_grad()
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        # as many parts on every worker, whose shares may differ by an image: each part is a meeting of all
        smallest, largest = batch.size // self._workers.size, math.ceil(batch.size / self._workers.size)
        num_parts = max(1, min(math.ceil(largest / self.micro_batch), smallest // self._least_batch))
        parts = list(zip(*(whole.tensor_split(num_parts) for whole in batch[:3]), strict=True))
        for position, (images, labels, targets) in enumerate(parts):
            with self._alone(is_last=position == num_parts - 1):
                with self._acceleration.autocast(self._device):
                    output = self._forward(images)
                losses = self._criterion.measure(output, targets)
                # the workers' gradients are averaged, so each counts its images' part of the batch that many times
                share = len(images) * self._workers.size / batch.size
                loss = losses.total if share == 1 else losses.total * share
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                correct = count_correct(losses.logits, labels)
                sums += torch.stack([losses.own * len(images), torch.zeros_like(losses.own), correct])
        return sums

    def find_gradients(self, batch: Batch) -> None:
        """Compute the gradients of a batch's loss as they are without float16's scale, and move nothing.

        A scale that is too large for them is halved until it is not, as the first steps of a training do, which are
        left out for it.

        Parameters
        ----------
        batch : Batch
            What to learn from.
        """
        for _ in range(1 + HALVINGS):
            self.add_gradients(batch)
            if self._scaler.unscale(self._gradients()):
                return

    def _gradients(self) -> list[Tensor]:
        return [one.grad for one in self._classifier.parameters() if one.grad is not None]

    def _alone(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Let gradients be sent to the other workers with the last part only."""
        if is_last or self._workers.is_alone:
            return contextlib.nullcontext()
        assert isinstance(self._wrapped, nn.parallel.DistributedDataParallel)
        return self._wrapped.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the classifier."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "average": self.average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "micro_batch": self.micro_batch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another stepper's ``state_dict`` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self._scaler.load_state_dict(state["scaler"])
        self.micro_batch = state["micro_batch"]


def find_least_batch(model: nn.Module) -> int:
    """Find how many images a model needs at once to be trained: batch normalisation cannot normalise one value."""
    return 2 if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) else 1


@torch.no_grad()
def _measure_change(before: list[Tensor], after: list[nn.Parameter]) -> Tensor:
    """Measure the length of a step over that of the weights before it."""
    length = measure_norm(before)
    torch._foreach_sub_(before, [weight.detach() for weight in after])
    return measure_norm(before) / length.clamp(min=1e-12)
