"""What a training makes small."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, multi_margin_loss

from tuner.spec.hyperparameters import GoogLeNet, HogSvm, Hyperparameters


class Losses(NamedTuple):
    """Of one batch, each a mean over its images.

    Attributes
    ----------
    total : float tensor without dimensions, in nats
        What gradients are taken of.
    own : float tensor without dimensions, in nats
        The last layer's alone.
    logits : float tensor, shape (batch, num_classes)
        The last layer's scores.
    """

    total: Tensor
    own: Tensor
    logits: Tensor


class Criterion:
    """The loss of one family of networks: cross-entropy, or the hinge loss of a support vector machine.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        The network, which may have heads at several depths, and ``l2``.
    class_sizes : int64 tensor, shape (num_classes,)
        How many images of each are trained on, on the device that trains. ``class_weights`` follow from them, and a
        support vector machine's ``C`` weighs the sum over all.

    Attributes
    ----------
    l2 : float, at least 0
        What the L2 term is weighed by. A support vector machine minimises ``|w|^2 / 2 + C * sum of losses``, which
        is the mean loss and an L2 term with ``1 / (C * num_images)``.
    guess : float, in nats
        The loss of a network that gives every class the same score: ln(num_classes) for cross-entropy.

    Notes
    -----
    The hinge loss is that of Weston and Watkins [1]_ over the number of classes. Targets that are blended count by
    their shares. Balanced weights are ``num_images / (num_classes * class_sizes)``, one on the average over the images.

    References
    ----------
    .. [1] Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", ESANN 1999.
    .. [2] Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842, section 5: the losses of
       auxiliary heads are added, times a weight.
    """

    def __init__(self, hyperparameters: Hyperparameters, class_sizes: Tensor) -> None:
        architecture = hyperparameters.architecture
        num_classes, num_images = len(class_sizes), int(class_sizes.sum())
        self._weights = None
        if hyperparameters.class_weights == "balanced":
            self._weights = num_images / (num_classes * class_sizes.clamp(min=1).float())
        self.is_hinge = isinstance(architecture, HogSvm)
        self.l2 = hyperparameters.l2
        if isinstance(architecture, HogSvm):
            self.l2 += 1 / (architecture.C * num_images)
        self.guess = (num_classes - 1) / num_classes if self.is_hinge else math.log(num_classes)
        self._auxiliary_weight = architecture.auxiliary_weight if isinstance(architecture, GoogLeNet) else 0.0

    def measure(self, output: Tensor | tuple[Tensor, ...], targets: Tensor) -> Losses:
        """Measure the losses of a batch.

        Parameters
        ----------
        output : float tensor, shape (batch, num_classes), or a tuple of them
            A network's scores, the last layer's first.
        targets : int64 tensor, shape (batch,), or float tensor, shape (batch, num_classes)
            Classes, or their shares.
        """
        logits, *auxiliary = (output,) if isinstance(output, Tensor) else output
        own = total = self.loss(logits, targets, self._weights)
        for scores in auxiliary:
            total = total + self._auxiliary_weight * self.loss(scores, targets, self._weights)
        return Losses(total, own, logits)

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Measure the mean loss of some scores, where an image may count by its class's weight."""
        logits = logits.float()
        if not self.is_hinge:
            if weights is None:
                return cross_entropy(logits, targets)
            # torch's own mean is over the weights of a batch, so that a rare class would count less in it
            return cross_entropy(logits, targets, weight=weights, reduction="sum") / len(logits)
        if targets.ndim == 1:
            return multi_margin_loss(logits, targets, weight=weights)
        num_classes = logits.shape[1]
        margins = (1 + logits[:, None, :] - logits[:, :, None]).clamp(min=0)  # [image, right class, other class]
        per_class = (margins.sum(dim=2) - 1) / num_classes  # a class is no rival of its own
        return (per_class * (targets if weights is None else targets * weights)).sum(dim=1).mean()


def count_correct(logits: Tensor, labels: Tensor, among: int = 1) -> Tensor:
    """Count the images whose class is among the highest scores.

    Parameters
    ----------
    logits : float tensor, shape (batch, num_classes)
        Scores.
    labels : int64 tensor, shape (batch,)
        Classes.
    among : int, at least 1
        How many of the highest scores.

    Returns
    -------
    int64 tensor without dimensions
        On the scores' device.
    """
    if among == 1:
        return (logits.argmax(dim=1) == labels).sum()
    highest = logits.topk(min(among, logits.shape[1]), dim=1).indices
    return torch.any(highest == labels[:, None], dim=1).sum()
