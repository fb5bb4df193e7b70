"""The training of one configuration, one epoch after the other."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from tuner.errors import RunError, SpecError
from tuner.spec.hyperparameters import Hyperparameters
from tuner.spec.space import Scalar
from tuner.train.checkpoint import ModelDescription, build_config, describe_model, read_state, write_state
from tuner.train.data import ImageSplits
from tuner.train.feed import ImageFeed
from tuner.train.models import Classifier, Randomness, build_model
from tuner.train.optimizers import add_l2_gradient, build_optimizer, find_weights, learning_rate_factor

STEPS_BETWEEN_CHECKS = 32  # looking at a loss makes a GPU wait
EVALUATION_VALUES = {"cpu": 2**18, "cuda": 2**22}  # pixels and channels in a batch without gradients
INITIAL_WEIGHTS, ORDER_OF_IMAGES, DROPPED_UNITS = range(3)


@dataclass(frozen=True)
class EpochResult:
    """What one epoch measured.

    Attributes
    ----------
    epoch : int, from 1
        Which one.
    train_loss, train_loss_with_l2 : float, in nats
        Mean cross-entropy over the training images, without and with the L2 term, as seen while training:
        with dropout, and with the weights that each step had.
    train_accuracy : float, fraction in [0, 1]
        Of the training images, as seen while training.
    val_loss : float, in nats
        Mean cross-entropy over the validation images after the epoch.
    val_accuracy : float, fraction in [0, 1]
        Of the validation images after the epoch.
    learning_rate : float
        Of the epoch's first step.
    seconds : float
        Of the whole epoch, validation included.
    images_per_second : float
        Training images over the time of training, validation left out.
    """

    epoch: int
    train_loss: float
    train_loss_with_l2: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float

    @property
    def is_finite(self) -> bool:
        """Whether the training is still sound; if not, all losses and accuracies are NaN."""
        return math.isfinite(self.train_loss)


class Trainer:
    """One configuration being trained.

    All randomness of an epoch is drawn anew from the seed and the epoch's number, so that a checkpoint
    between epochs needs no random state and a restored training yields the very same numbers.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        The configuration.
    splits : ImageSplits
        What to train on and to validate with.
    max_epochs : int, at least 1
        How many epochs there are, which the decay of the learning rate is stretched over.
    seed : int, at least 0
        Where weights, the order of images and dropout come from.
    device : str
        cpu or cuda, the latter with a number or without.
    clock : function without arguments to seconds
        What times the epochs.

    Attributes
    ----------
    classifier : Classifier
        The network with its normalisation, as it is after the latest epoch.
    description : ModelDescription
        What it takes to save it and to load it again.
    history : list of EpochResult
        All epochs so far.

    Raises
    ------
    SpecError
        If batches of one image meet batch normalisation, which cannot normalise one value.
    ValueError
        If ``max_epochs`` is below 1.
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        splits: ImageSplits,
        *,
        max_epochs: int,
        seed: int,
        device: str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, got {max_epochs}")
        self.max_epochs = max_epochs
        self.description = ModelDescription(hyperparameters, splits.image_shape, splits.class_names)
        self.history: list[EpochResult] = []
        self._hyperparameters = hyperparameters
        self._seed = seed
        self._clock = clock
        self._data_identity = splits.identity
        self._device = torch.device(device)
        self._feed = ImageFeed(splits.images, splits.labels, self._device)
        self._train_rows = torch.from_numpy(splits.train)
        self._validation_rows = torch.from_numpy(splits.validation)
        # batches are of equal size up to one image: no last one of a few images with a step as long
        self._steps_per_epoch = math.ceil(len(self._train_rows) / hyperparameters.batch_size)

        self._dropout_generator = torch.Generator(self._device)
        randomness = Randomness(
            torch.Generator().manual_seed(derive_seed(seed, 0, INITIAL_WEIGHTS)), self._dropout_generator
        )
        network = build_model(hyperparameters, splits.image_shape, splits.num_classes, randomness)
        has_batch_norm = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        if has_batch_norm and len(self._train_rows) < 2 * self._steps_per_epoch:
            raise SpecError(
                "batch_size: batch normalisation needs at least 2 images a batch, found "
                f"{hyperparameters.batch_size} "
                f"for {len(self._train_rows)} training images; set a larger batch_size"
            )
        self.classifier = Classifier(network, splits.mean.tolist(), splits.std.tolist())
        # torch knows no overload of to() for a memory format alone
        self.classifier.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = build_optimizer(hyperparameters, self.classifier)
        self._weights = find_weights(self.classifier)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def epochs(self) -> Iterator[EpochResult]:
        """Train one epoch after the other, from where the trainer stands, and yield what each measured.

        A loss that is not finite ends its epoch early; the epoch is yielded, with NaN, as the last one.
        """
        while self.epoch < self.max_epochs and all(result.is_finite for result in self.history[-1:]):
            start = self._clock()
            train_loss, train_loss_with_l2, train_accuracy, num_images = self._train_epoch()
            images_per_second = num_images / max(self._clock() - start, 1e-9)
            val_loss, val_accuracy = self._validate()
            measured = (train_loss, train_loss_with_l2, train_accuracy, val_loss, val_accuracy)
            if not all(math.isfinite(value) for value in measured):
                measured = (math.nan,) * 5
            result = EpochResult(
                self.epoch + 1,
                *measured,
                self._learning_rate(step=0),
                self._clock() - start,
                images_per_second,
            )
            self.history.append(result)
            yield result

    def _train_epoch(self) -> tuple[float, float, float, int]:
        """Take one step a batch; return both losses, the accuracy, and how many images were seen."""
        self.classifier.train()
        self._dropout_generator.manual_seed(derive_seed(self._seed, self.epoch, DROPPED_UNITS))
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.epoch, ORDER_OF_IMAGES))
        order = self._train_rows[torch.randperm(len(self._train_rows), generator=generator)]
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        num_images = 0
        for step, rows in enumerate(order.tensor_split(self._steps_per_epoch)):
            images, labels = self._feed.gather(rows)
            logits = self.classifier(images)
            loss = cross_entropy(logits, labels)
            self.classifier.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            l2_term = add_l2_gradient(self._weights, self._hyperparameters.l2)
            self._optimizer.step(self._learning_rate(step))

            with torch.no_grad():
                correct = (logits.argmax(dim=1) == labels).sum()
                sums += torch.stack([loss * len(rows), l2_term * len(rows), correct])
            num_images += len(rows)
            if step % STEPS_BETWEEN_CHECKS == 0 and not sums.isfinite().all():
                break
        loss_sum, l2_sum, num_correct = sums.tolist()
        return loss_sum / num_images, (loss_sum + l2_sum) / num_images, num_correct / num_images, num_images

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Measure loss and accuracy on the validation images."""
        self.classifier.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        batch_size = max(1, EVALUATION_VALUES[self._device.type] // math.prod(self.description.image_shape))
        for rows in torch.split(self._validation_rows, batch_size):
            images, labels = self._feed.gather(rows)
            logits = self.classifier(images)
            loss = cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([loss, (logits.argmax(dim=1) == labels).sum()])
        loss, correct = sums.tolist()
        return loss / len(self._validation_rows), correct / len(self._validation_rows)

    def _learning_rate(self, step: int) -> float:
        """Return the learning rate of a step of the next epoch to be done."""
        progress = (self.epoch + step / self._steps_per_epoch) / self.max_epochs
        factor = learning_rate_factor(self._hyperparameters.learning_rate_decay, progress)
        return self._hyperparameters.learning_rate * factor

    def save(self, path: Path) -> None:
        """Save everything to go on from here; a path that cannot be written is a RunError.

        Parameters
        ----------
        path : Path
            Written whole or not at all. ``load_model`` reads it too, and so does
            ``torch.load(weights_only=True)``.
        """
        training = {
            "configuration": self._describe_configuration(),
            "optimizer": self._optimizer.state_dict(),
            "history": [dataclasses.asdict(result) for result in self.history],
        }
        write_state(path, {**describe_model(self.classifier, self.description), "training": training})

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint: with the epoch after it, and with its epochs as ``history``.

        Parameters
        ----------
        path : Path
            What ``save`` wrote, of the same configuration.

        Raises
        ------
        RunError
            If the file is missing, cut short, or of another configuration, data set, seed or length.
        """
        state = read_state(path)
        training = state.get("training")
        if training is None:
            raise RunError(f"{path}: a training's checkpoint was expected, this is only a model; delete it")
        now, then = self._describe_configuration(), training["configuration"]
        differences = [
            f"{key} is {then.get(key)!r} there and {now.get(key)!r} here"
            for key in sorted(now.keys() | then.keys())
            if then.get(key) != now.get(key)
        ]
        if differences:
            raise RunError(f"{path}: another training's checkpoint; {'; '.join(differences)}; delete it")
        self.classifier.load_state_dict(state["classifier"])
        self._optimizer.load_state_dict(training["optimizer"])
        self.history = [EpochResult(**result) for result in training["history"]]

    def _describe_configuration(self) -> dict[str, Scalar]:
        """Name all that a checkpoint must agree in, or it would not go on as it began."""
        own: dict[str, Scalar] = {
            "max_epochs": self.max_epochs,
            "seed": self._seed,
            "data": self._data_identity,
        }
        return own | build_config(self._hyperparameters)


def derive_seed(seed: int, epoch: int, purpose: int) -> int:
    """Derive the seed of one use of random numbers, unrelated to those of other uses, epochs and seeds."""
    return int(np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0])
