"""Whether a network is put together rightly: a few batches through the real step, and nothing is learned."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tuner.spec.hyperparameters import HogSvm, Hyperparameters, Sgd
from tuner.train.acceleration import HALVINGS
from tuner.train.checks.finding import Finding, judge
from tuner.train.data import ImageSplits
from tuner.train.loop import Trainer
from tuner.train.optimizers import find_weights

MOST_WORK = 1e11  # multiply-adds of a batch that is looked at
BATCH = (8, 64)  # fewest and most images in it
FIRST_LOSS = (0.7, 1.4)  # of a guess's: farther off, the weights that scores begin with are too large
FAR_LOSS = 3.0
MEAN_OFF, STD_OFF = 0.5, 2.0  # of the pixels that the network sees, which should have mean 0 and deviation 1
STRONG_L2 = 0.5  # share of the first loss
PROBE_L2, PROBE_RATE = 0.01, 0.01
L2_OFF = 0.1
EVALUATION_OFF = 1e-3  # of the largest score
LEFT_OUT = (
    "dropout", "label_smoothing", "gradient_clip", "weight_average", "micro_batch", "warm_up", "crop_padding", "flip",
    "rotation", "colour_jitter", "cutout", "mixup", "cutmix", "rand_augment",
)  # fmt: skip


def without_regularisation(given: Hyperparameters, l2: float = 0.0) -> Hyperparameters:
    """Return a configuration without what changes images, drops units or clips, so that steps can be compared."""
    nothing = {name: type(getattr(given, name))(0) for name in LEFT_OUT}
    return given.model_copy(update={**nothing, "l2": l2, "class_weights": "none", "learning_rate_decay": "constant"})


class WiringCheck:
    """Checks one network; each check yields what it found, and the first that fails may end them.

    Parameters
    ----------
    subject : str
        What to call the network.
    given : Hyperparameters
        Its configuration.
    splits : ImageSplits
        The images.
    rng : numpy.random.Generator
        Where the images that are looked at are drawn from.
    seed : int
        Where its weights come from.
    device : str
        A device of torch.
    most_l2 : float
        The largest of the space.
    """

    def __init__(
        self,
        subject: str,
        given: Hyperparameters,
        splits: ImageSplits,
        rng: np.random.Generator,
        *,
        seed: int,
        device: str,
        most_l2: float,
    ) -> None:
        self._subject = subject
        self._given = given
        self._splits = splits
        self._rng = rng
        self._rows = torch.zeros(0, dtype=torch.int64)
        self._seed = seed
        self._device = device
        self._most_l2 = most_l2

    def run(self) -> Iterator[Finding]:
        """Yield what is found; after a network that cannot be trained at all, nothing more."""
        trainer = self._build(self._given)
        train = self._splits.train
        num_images = int(np.clip(MOST_WORK / max(1, trainer.num_multiply_adds), *BATCH))
        self._rows = torch.from_numpy(self._rng.choice(train, min(num_images, len(train)), replace=False))
        for check in (self._check_scores, self._check_input, self._check_gradients, self._check_first_loss):
            finding = check(trainer)
            yield finding
            if finding.status == "fail" and check in {self._check_scores, self._check_gradients}:
                return
        yield self._check_l2()
        yield self._check_evaluation(self._build(self._given))

    def _build(self, given: Hyperparameters) -> Trainer:
        return Trainer(given, self._splits, max_epochs=1, seed=self._seed, device=self._device)

    def _check_scores(self, trainer: Trainer) -> Finding:
        """See that there is a score a class, and that scores are no probabilities yet."""
        with trainer.evaluating():
            scores, _ = trainer.score(self._rows)
        num_classes, check, bound = self._splits.num_classes, "scores", f"{self._splits.num_classes} a class each"
        if scores.ndim != 2 or scores.shape[1] != num_classes:
            text = f"{scores.shape[-1]} scores come out for {num_classes} classes"
            advice = "the last layer must have as many units as the data has classes"
            return Finding(self._subject, check, "fail", scores.shape[-1], bound, text, advice)
        sums = scores.sum(dim=1)
        if bool((scores >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
            text = "the scores are probabilities already, and the loss applies a softmax to them once more"
            advice = "take the softmax out of the network"
            return Finding(self._subject, check, "fail", float(sums.mean()), "no softmax", text, advice)
        return Finding(self._subject, check, "pass", num_classes, bound, f"{num_classes} scores, no softmax")

    def _check_input(self, trainer: Trainer) -> Finding:
        """See that the network gets normalised images."""
        seen: list[Tensor] = []
        hook = trainer.classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with trainer.evaluating():
            trainer.score(self._rows)
        hook.remove()
        mean, std = float(seen[0].mean()), float(seen[0].std())
        if isinstance(self._given.architecture, HogSvm):
            is_right, bound = float(seen[0].min()) >= 0 and float(seen[0].max()) <= 1, "0 to 1"
        else:
            is_right = abs(mean) < MEAN_OFF and 1 / STD_OFF < std < STD_OFF
            bound = f"mean 0 +- {MEAN_OFF}, deviation {1 / STD_OFF} to {STD_OFF:g}"
        text = f"the network sees pixels with mean {mean:.3g} and deviation {std:.3g}"
        advice = "" if is_right else "subtract the training images' mean and divide by their deviation"
        return Finding(self._subject, "normalised", "pass" if is_right else "fail", std, bound, text, advice)

    def _check_gradients(self, trainer: Trainer) -> Finding:
        """See that every layer learns: none is frozen, none has only zeros, none begins with equal weights."""
        trainer.classifier.train()
        trainer.stepper.find_gradients(trainer.gather(self._rows))
        frozen, broken, dead, equal = [], [], [], []
        weights = {id(weight) for weight in find_weights(trainer.classifier)}  # others may well begin with zeros
        for name, parameter in trainer.classifier.network.named_parameters():
            gradient = parameter.grad
            if not parameter.requires_grad or gradient is None:
                frozen.append(name)
            elif not bool(gradient.isfinite().all()):
                broken.append(name)
            elif id(parameter) in weights and parameter.numel() > 1 and float(parameter.detach().std()) == 0:
                equal.append(name)
            elif id(parameter) in weights and not bool(gradient.any()):
                dead.append(name)
        faults = [
            (equal, "begins with equal weights", "initialise it at random: its units can never become different"),
            (frozen, "is frozen: it gets no gradient", "let it be trained: requires_grad, and no detach on the way"),
            (broken, "has a gradient that is not finite", "look for a division by zero or a logarithm of zero"),
            (dead, "has a gradient of zero", "look for units that never fire, and for what cuts it off the loss"),
        ]
        num_parameters = sum(1 for _ in trainer.classifier.network.parameters())
        num_wrong = sum(len(names) for names, *_ in faults)
        bound = "0 without a sound gradient"
        for names, what, advice in faults:
            if names:
                text = f"{names[0]} {what}" + (f", and so for {len(names) - 1} more" if len(names) > 1 else "")
                return Finding(self._subject, "gradients", "fail", num_wrong, bound, text, advice)
        text = f"finite in all {num_parameters} tensors, and zero in no layer"
        return Finding(self._subject, "gradients", "pass", 0, bound, text)

    def _check_first_loss(self, trainer: Trainer) -> Finding:
        """See that the first loss is that of a guess, and how much of it the L2 term is."""
        trainer.classifier.train()
        measured = trainer.stepper.take(trainer.gather(self._rows), 0.0, is_measured=False)
        loss, term, _ = (measured.sums / len(self._rows)).tolist()
        guess, l2 = trainer.criterion.guess, trainer.criterion.l2
        ratio = loss / guess
        status = judge(ratio, warn=not FIRST_LOSS[0] < ratio < FIRST_LOSS[1], fail=ratio > FAR_LOSS)
        share = term / (loss + term)
        text = f"{loss:.3f} before training, a guess has {guess:.3f}; {loss + term:.3f} with L2, {share:.1%} of it"
        if l2 > 0 and self._most_l2 > l2:
            most = term * self._most_l2 / l2
            text += f", {most / (loss + most):.0%} at l2 {self._most_l2:.3g}"
        advice = ""
        if status != "pass":
            advice = "make the last layer's first weights smaller: all classes should be about as probable"
        elif share > STRONG_L2:
            status, advice = "warn", "lower l2: it counts for more than the images do"
        bound = f"{FIRST_LOSS[0] * guess:.2f} to {FIRST_LOSS[1] * guess:.2f}"
        return Finding(self._subject, "first loss", status, loss, bound, text, advice)

    def _check_l2(self) -> Finding:
        """See that the L2 term adds ``l2 / 2`` times the squared weights to the loss, once, by gradient and step."""
        given = self._given
        parts, steps = [], []
        for l2 in (0.0, PROBE_L2):
            trainer = self._build(without_regularisation(given, l2))
            trainer.classifier.train()
            weights = find_weights(trainer.classifier)
            before = _flatten([weight.detach() for weight in weights])
            batch = trainer.gather(self._rows)
            for _ in range(1 + HALVINGS):  # one that overflows in float16 is left out, and the next has a lower scale
                measured = trainer.stepper.take(batch, PROBE_RATE, is_measured=True)
                if measured.change is not None:
                    break
            parts.append(_flatten([weight.grad for weight in weights if weight.grad is not None]))
            steps.append(before - _flatten([weight.detach() for weight in weights]))
        square = float(before @ before)
        gradient = float((parts[1] - parts[0]) @ before) / (PROBE_L2 * square)
        term = float(measured.sums[1]) / len(self._rows) / (trainer.criterion.l2 / 2 * square)
        times = [term, gradient]
        if isinstance(given.optimizer, Sgd):  # the others divide by the gradient's size
            ahead = 1 + given.optimizer.momentum if given.optimizer.nesterov else 1
            times.append(float((steps[1] - steps[0]) @ before) / (PROBE_L2 * PROBE_RATE * ahead * square))
        worst = max(times, key=lambda one: abs(one - 1) if math.isfinite(one) else math.inf)
        text = f"in the loss {term:.3g} times, in the gradient {gradient:.3g} times what it should be"
        if len(times) > 2:
            text += f", in a step {times[2]:.3g} times"
        status = judge(worst, warn=False, fail=not abs(worst - 1) <= L2_OFF)
        advice = "" if status == "pass" else "count it in one place: in the loss or in the optimizer, not in both"
        return Finding(self._subject, "L2 once", status, worst, f"1 +- {L2_OFF}", text, advice)

    def _check_evaluation(self, trainer: Trainer) -> Finding:
        """See that evaluation gives the same scores again, whatever other images are beside an image."""
        trainer.classifier.train()
        trainer.stepper.take(trainer.gather(self._rows), 0.0, is_measured=False)  # statistics of batches, if there are
        half = len(self._rows) // 2
        with trainer.evaluating():
            first, again, alone = (trainer.score(rows)[0] for rows in (self._rows, self._rows, self._rows[:half]))
        scale = float(first.abs().max()) or 1.0
        twice = float((first - again).abs().max()) / scale
        apart = float((first[:half] - alone).abs().max()) / scale
        bound = f"at most {EVALUATION_OFF}"
        if not twice <= EVALUATION_OFF:
            text = f"the same images get scores that are {twice:.2g} of the largest apart"
            advice = "switch dropout and augmentation off in evaluation"
            return Finding(self._subject, "evaluation", "fail", twice, bound, text, advice)
        status = judge(apart, warn=False, fail=apart > EVALUATION_OFF)
        text = f"scores differ by {apart:.2g} of the largest when other images are beside them"
        advice = "" if status == "pass" else "normalise by what was seen in training, not by the batch"
        return Finding(self._subject, "evaluation", status, apart, bound, text, advice)


def _flatten(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])
