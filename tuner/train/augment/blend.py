"""Labels as probabilities, and what it takes to blend images and labels."""

import torch
from torch import Tensor

from tuner.train.augment.boxes import draw_boxes


def smooth_labels(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return each class as probabilities, a share of which is spread evenly over all classes.

    Parameters
    ----------
    labels : int64 tensor, shape (batch,)
        Classes.
    num_classes : int
        How many there are.
    smoothing : float, fraction in [0, 1)
        The share.

    Returns
    -------
    float32 tensor, shape (batch, num_classes)
        Rows sum to 1.
    """
    spread = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), spread, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + spread)


def draw_share(alpha: float, generator: torch.Generator) -> Tensor:
    """Draw from the Beta distribution with both parameters alike.

    Parameters
    ----------
    alpha : float, above 0
        The parameters.
    generator : torch.Generator
        On the device where the number is wanted.

    Returns
    -------
    float32 tensor, shape (), in [0, 1]
        The share of the other image.

    Notes
    -----
    The first of two Gamma variates over their sum, drawn as logarithms: near alpha = 0 both variates vanish, and
    their ratio would not be a number. A Gamma(a) variate is one of Gamma(a + 1) times U ** (1 / a). The
    distribution's own class takes no generator.

    References
    ----------
    .. [1] Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26(3), 2000, section 6.
    """
    shapes = torch.full((2,), alpha + 1, dtype=torch.float64, device=generator.device)
    gammas = torch._standard_gamma(shapes, generator=generator)
    uniforms = 1 - torch.rand(2, dtype=torch.float64, generator=generator, device=generator.device)
    one, other = (gammas.log() + uniforms.log() / alpha).unbind()
    return torch.sigmoid(one - other).float()


def draw_cut(alpha: float, image_size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the rectangle that CutMix pastes into all images of a batch.

    Returns
    -------
    lines, columns : bool tensors, shapes (1, height) and (1, width)
        What it covers.
    share : float32 tensor, shape (), in [0, 1]
        Of the area that it really covers.
    """
    height, width = image_size
    scale = draw_share(alpha, generator).sqrt()
    box_size = ((scale * height).round().long(), (scale * width).round().long())
    lines, columns = draw_boxes(1, image_size, box_size, generator)
    return lines, columns, (lines.sum() * columns.sum()).float() / (height * width)


def blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Go from one to the other by a share; exactly one of them at 0 and 1."""
    return torch.lerp(images, others, share)


def gather_images(images: Tensor, rows: Tensor) -> Tensor:
    """Return some images, in channels-last order of memory like those that are given."""
    return images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
