"""The training of one configuration, one epoch after the other."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tuner.errors import RunError, SpecError
from tuner.spec.hyperparameters import HogSvm, Hyperparameters
from tuner.spec.space import Scalar
from tuner.train.acceleration import choose_acceleration
from tuner.train.augment import Augmenter
from tuner.train.checkpoint import ModelDescription, build_config, describe_model, read_state, save_model, write_state
from tuner.train.criterion import Criterion, count_correct
from tuner.train.data import ImageSplits
from tuner.train.feed import ImageFeed
from tuner.train.memory import explained, give_up_onednn, is_out_of_memory, measure_peak, release, watch_peak
from tuner.train.models import Classifier, Randomness, build_model
from tuner.train.models.summary import summarise
from tuner.train.schedule import learning_rate_factor
from tuner.train.step import Batch, Stepper, find_least_batch
from tuner.train.workers import Workers

STEPS_BETWEEN_CHECKS = 32  # looking at a loss makes a GPU wait
HOPELESS = 10  # a mean loss of this many times a guess's, over that many steps, is a training that diverged
EVALUATION_VALUES = {"cpu": 2**18, "cuda": 2**22}  # pixels and channels in a batch without gradients
TOP = 5
TRAINED = ("train_loss", "train_loss_with_l2", "l2_share", "train_accuracy", "gradient_norm", "update_ratio")
LOSSES = ("train_loss", "train_loss_with_l2", "val_loss")
INITIAL_WEIGHTS, ORDER_OF_IMAGES, DROPPED_UNITS, AUGMENTATION = range(4)


@dataclass(frozen=True)
class EpochResult:
    """What one epoch measured.

    Attributes
    ----------
    epoch : int, from 1
        Which one.
    train_loss, train_loss_with_l2 : float, in nats
        Mean loss over the training images (cross-entropy, or a support vector machine's hinge loss), without and
        with the L2 term, as seen while training: with dropout and augmentation, and with the weights that each step
        had. Auxiliary heads do not count.
    l2_share : float, fraction in [0, 1]
        The L2 term's part of ``train_loss_with_l2``.
    train_accuracy : float, fraction in [0, 1]
        Of the training images, as seen while training.
    val_loss : float, in nats
        Mean loss over the validation images after the epoch.
    val_accuracy, val_top5_accuracy, val_superclass_accuracy : float, fraction in [0, 1]
        Of the validation images after the epoch: whose class has the highest score, is among the five highest (None
        with five classes or fewer), or has the superclass of the class of the highest score (None without any).
    gradient_norm : float
        Length of the gradient, L2 term included, before clipping; mean over a step in 32.
    update_ratio : float
        Length of a step over that of the weights, biases and the like left out; mean over a step in 32.
    learning_rate : float
        Of the epoch's first step.
    seconds : float
        Of the whole epoch, validation included.
    images_per_second : float
        Training images over the time of training, validation left out.
    peak_memory_bytes : int
        Since the training began: of tensors on a GPU, or of the whole process.
    micro_batch : int
        Most images that were on the device at once for a step.
    parameters : int
        Of the network: its weights and biases.
    multiply_adds : int
        Of the network for one image, in validation.
    """

    epoch: int
    train_loss: float
    train_loss_with_l2: float
    l2_share: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_top5_accuracy: float | None
    val_superclass_accuracy: float | None
    gradient_norm: float
    update_ratio: float
    learning_rate: float
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    micro_batch: int
    parameters: int
    multiply_adds: int

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
        Where weights, the order of images, augmentation and dropout come from.
    device : str
        cpu or cuda, the latter with a number or without.
    is_growing : bool
        Whether epoch ``n`` trains on ``n / max_epochs`` of the training images rather than all.
    workers : Workers
        Who trains the same configuration together.
    clock : function without arguments to seconds
        What times the epochs.

    Attributes
    ----------
    classifier : Classifier
        The network with its normalisation, as it is after the latest step.
    acceleration : Acceleration
        How the device is used.
    criterion : Criterion
        What is made small.
    stepper : Stepper
        What moves the weights.
    num_multiply_adds : int
        Of the network for one image.
    feed : ImageFeed
        Brings images to the device.
    validation_rows : int64 tensor, shape (num_validation,), on the CPU
        Which images are for validation.
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
        is_growing: bool = False,
        workers: Workers | None = None,
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
        self._is_growing = is_growing
        self._workers = workers or Workers()
        self._data_identity = splits.identity
        self._device = torch.device(device)
        self._advice = "set a smaller micro_batch, batch_size or network, or give the trial more memory"
        watch_peak(self._device)
        with explained(self._device, self._advice):
            self._prepare_data(splits)
            self._prepare_network(splits)

    def _prepare_data(self, splits: ImageSplits) -> None:
        given = self._hyperparameters
        self.feed = ImageFeed(splits.images, splits.labels, self._device)
        train = splits.train if splits.order is None or not self._is_growing else splits.order
        self._train_rows = torch.from_numpy(train)
        self.validation_rows = torch.from_numpy(splits.validation)
        self._superclasses = None
        if splits.superclasses is not None:
            self._superclasses = torch.from_numpy(splits.superclasses).to(self._device)
        self._augmentation_generator = torch.Generator(self._device)
        self._augment = Augmenter(given, splits.num_classes, self._augmentation_generator, splits.mean.tolist())
        # batches are of equal size up to one image: no last one of a few images with a step as long
        sizes = [self._count_images(epoch) for epoch in range(self.max_epochs)]
        self._steps = [math.ceil(size / given.batch_size) for size in sizes]
        self._steps_before = [0, *itertools.accumulate(self._steps)]

    def _prepare_network(self, splits: ImageSplits) -> None:
        given = self._hyperparameters
        self._dropout_generator = torch.Generator(self._device)
        weights = torch.Generator().manual_seed(derive_seed(self._seed, 0, INITIAL_WEIGHTS))
        randomness = Randomness(weights, self._dropout_generator)
        network = build_model(given, splits.image_shape, splits.num_classes, randomness)
        self._refuse_small_batches(find_least_batch(network))
        layers = summarise(network, splits.image_shape)
        self._num_parameters = sum(layer.num_parameters for layer in layers)
        self.num_multiply_adds = sum(layer.num_multiply_adds for layer in layers)
        self.acceleration = choose_acceleration(given, self._device, self.num_multiply_adds)
        self.acceleration.apply()
        mean, std = splits.mean.tolist(), splits.std.tolist()
        if isinstance(given.architecture, HogSvm):  # its histograms are made for pixels from 0 to 1
            mean, std = [0.0] * len(mean), [255.0] * len(std)
        self.classifier = Classifier(network, mean, std)
        # torch knows no overload of to() for a memory format alone
        self.classifier.to(self._device, memory_format=self.acceleration.memory_format)  # type: ignore[call-overload]
        sizes = np.bincount(splits.labels[splits.train], minlength=splits.num_classes)
        criterion = Criterion(given, torch.from_numpy(sizes).to(self._device))
        self.criterion, self._hopeless_loss = criterion, HOPELESS * criterion.guess
        self.stepper = Stepper(self.classifier, given, criterion, self.acceleration, self._workers)

    def _refuse_small_batches(self, needed: int) -> None:
        """See that each worker gets as many images a step as the network needs.

        Raises
        ------
        SpecError
            If it does not.
        """
        num_images, given = self._count_images(0), self._hyperparameters
        batches = (self._count_images(epoch) // steps for epoch, steps in enumerate(self._steps))
        smallest = min(batches) // self._workers.size
        if min(smallest, given.micro_batch or smallest) < needed:
            what = "batch normalisation needs at least 2 images a batch" if needed == 2 else "a step needs an image"
            shared = "" if self._workers.is_alone else f" on {self._workers.size} workers"
            split = f", in parts of {given.micro_batch}" if given.micro_batch else ""
            raise SpecError(
                f"batch_size: {what}, found {given.batch_size} for {num_images} training images{shared}{split}; "
                "set a larger one"
            )

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def epochs(self) -> Iterator[EpochResult]:
        """Train one epoch after the other, from where the trainer stands, and yield what each measured.

        A loss that is not finite, or that is hopelessly above a guess's, ends its epoch early; the epoch is yielded,
        with NaN, as the last one. A network that does not fit into memory is an OutOfMemoryError; a batch that does not
        fit is split.
        """
        while self.epoch < self.max_epochs and all(result.is_finite for result in self.history[-1:]):
            start = self._clock()
            with explained(self._device, self._advice):
                trained, num_images = self._train_epoch()
                images_per_second = num_images / max(self._clock() - start, 1e-9)
                measured = {**trained, **self._validate()}
            if not all(
                math.isfinite(measured[name] or 0.0) for name in ("train_loss", "train_loss_with_l2", "val_loss")
            ):
                measured = {name: None if value is None else math.nan for name, value in measured.items()}
            result = EpochResult(
                epoch=self.epoch + 1,
                **measured,  # type: ignore[arg-type]
                learning_rate=self._learning_rate(step=0),
                seconds=self._clock() - start,
                images_per_second=images_per_second,
                peak_memory_bytes=measure_peak(self._device),
                micro_batch=self.stepper.micro_batch,
                parameters=self._num_parameters,
                multiply_adds=self.num_multiply_adds,
            )
            self.history.append(result)
            yield result

    def _count_images(self, epoch: int) -> int:
        """How many training images an epoch, counted from 0, sees."""
        if not self._is_growing:
            return len(self._train_rows)
        return math.ceil(len(self._train_rows) * (epoch + 1) / self.max_epochs)

    def _train_epoch(self) -> tuple[dict[str, float], int]:
        """Take one step a batch; return what was measured, and how many images were seen."""
        self.classifier.train()
        rank = self._workers.rank  # the first worker draws what a single one would
        self._dropout_generator.manual_seed(derive_seed(self._seed, self.epoch, DROPPED_UNITS, rank))
        self._augmentation_generator.manual_seed(derive_seed(self._seed, self.epoch, AUGMENTATION, rank))
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.epoch, ORDER_OF_IMAGES))
        rows = self._train_rows[: self._count_images(self.epoch)]
        order = rows[torch.randperm(len(rows), generator=generator)]
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        seen, seen_before, loss_before = 0, 0, 0.0
        changes: list[Tensor] = []
        for step, batch in enumerate(order.tensor_split(self._steps[self.epoch])):
            is_checked = step % STEPS_BETWEEN_CHECKS == 0
            measured = self.stepper.take(self.gather(batch), self._learning_rate(step), is_measured=is_checked)
            sums += measured.sums
            seen += len(batch)
            if measured.change is not None:
                changes.append(measured.change)
            if is_checked:
                loss = float(self._workers.add(sums[:1].clone()))
                recent = (loss - loss_before) / (seen - seen_before)
                if not math.isfinite(loss) or (step > 0 and recent > self._hopeless_loss):
                    return dict.fromkeys(TRAINED, math.nan), seen
                seen_before, loss_before = seen, loss
        loss, l2_term, accuracy = (self._workers.add(sums) / seen).tolist()
        if self.epoch > 0 and loss > self._hopeless_loss:
            loss = math.nan
        share = l2_term / (loss + l2_term) if l2_term > 0 else 0.0
        norm, ratio = torch.stack(changes).mean(dim=0).tolist() if changes else (math.nan, math.nan)
        return dict(zip(TRAINED, (loss, loss + l2_term, share, accuracy, norm, ratio), strict=True)), seen

    def gather(self, rows: Tensor) -> Batch:
        """Bring this worker's part of some images to the device, augmented, as a step takes them.

        Parameters
        ----------
        rows : int64 tensor, shape (batch,), on the CPU
            Which images, for all workers together.
        """
        images, labels = self.feed.gather(self._workers.share(rows))
        images, targets = self._augment(images, labels)
        images = images.contiguous(memory_format=self.acceleration.memory_format)
        return Batch(images, labels, targets, len(rows))

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Let the classifier be what is validated for as long as the block lasts, without gradients."""
        with self.stepper.average.applied():
            self._workers.align(self.classifier)
            self.classifier.eval()
            with torch.inference_mode():
                yield

    def score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Score some images as they are, in a block of ``evaluating``.

        Parameters
        ----------
        rows : int64 tensor, shape (batch,), on the CPU
            Which images; in halves, if they do not fit into memory together.

        Returns
        -------
        logits : float tensor, shape (batch, num_classes)
            Scores.
        labels : int64 tensor, shape (batch,)
            Classes.

        Raises
        ------
        MemoryError
            If a single image does not fit into memory.
        RuntimeError
            If it does not on torch's own account, or torch fails.
        """
        try:
            images, labels = self.feed.gather(rows)
            images = images.contiguous(memory_format=self.acceleration.memory_format)
            with self.acceleration.autocast(self._device):
                return self.classifier(images).float(), labels
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(rows) < 2:
                raise
            give_up_onednn(error)
        # outside of except, whose error holds the tensors that did not fit
        release(self._device)
        (first, first_labels), (second, second_labels) = (self.score(half) for half in rows.tensor_split(2))
        return torch.cat([first, second]), torch.cat([first_labels, second_labels])

    def _validate(self) -> dict[str, float | None]:
        """Measure losses and accuracies on the validation images."""
        sums = torch.zeros(4, dtype=torch.float64, device=self._device)
        batch_size = max(1, EVALUATION_VALUES[self._device.type] // math.prod(self.description.image_shape))
        with self.evaluating():
            own = self._workers.share(self.validation_rows)  # none at all, where there are more workers than images
            for rows in torch.split(own, batch_size) if len(own) else ():
                logits, labels = self.score(rows)
                loss = self.criterion.loss(logits, labels) * len(rows)
                counts = [count_correct(logits, labels), count_correct(logits, labels, TOP)]
                if self._superclasses is not None:
                    found = self._superclasses[logits.argmax(dim=1)]
                    counts.append((found == self._superclasses[labels]).sum())
                sums[: 1 + len(counts)] += torch.stack([loss, *counts])
        means = (self._workers.add(sums) / len(self.validation_rows)).tolist()
        return {
            "val_loss": means[0],
            "val_accuracy": means[1],
            "val_top5_accuracy": means[2] if len(self.description.class_names) > TOP else None,
            "val_superclass_accuracy": None if self._superclasses is None else means[3],
        }

    def _learning_rate(self, step: int) -> float:
        """Return the learning rate of a step of the next epoch to be done."""
        given = self._hyperparameters
        done, total = self._steps_before[self.epoch] + step, self._steps_before[-1]
        return given.learning_rate * learning_rate_factor(given.learning_rate_decay, done, total, given.warm_up)

    def save_model(self, path: Path) -> None:
        """Save the classifier as it is validated; a path that cannot be written is a RunError.

        Parameters
        ----------
        path : Path
            Written whole or not at all. ``load_model`` reads it.
        """
        with self.stepper.average.applied():
            save_model(self.classifier, self.description, path)

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
            "stepper": self.stepper.state_dict(),
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
        self.stepper.load_state_dict(training["stepper"])
        self.history = [EpochResult(**result) for result in training["history"]]

    def _describe_configuration(self) -> dict[str, Scalar]:
        """Name all that a checkpoint must agree in, or it would not go on as it began."""
        own: dict[str, Scalar] = {
            "max_epochs": self.max_epochs,
            "seed": self._seed,
            "data": self._data_identity,
            "fidelity": "data" if self._is_growing else "epochs",
            "workers": self._workers.size,
        }
        return own | build_config(self._hyperparameters)


def derive_seed(seed: int, epoch: int, purpose: int, rank: int = 0) -> int:
    """Derive the seed of one use of random numbers, unrelated to those of other uses, epochs, seeds and workers."""
    entropy = [seed, epoch, purpose, rank] if rank else [seed, epoch, purpose]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
