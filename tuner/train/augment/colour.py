"""Changes of colour, each by an amount of its own for every image.

All take and return float images of shape (batch, channels, height, width), values 0 to 255, and amounts of shape
(batch,). A factor of 1 changes nothing, one of 0 takes the quality away, and larger ones add to it.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def change_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return (images * factor[:, None, None, None]).clamp_(0, 255)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of each image."""
    return _extrapolate(to_grey(images).mean(dim=(1, 2, 3), keepdim=True), images, factor)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with grey; without three channels, there is nothing to do."""
    return _extrapolate(to_grey(images), images, factor) if images.shape[1] == len(LUMA) else images


def change_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a 3x3 mean in which the pixel itself counts five times; the border stays as it is."""
    smooth = images.clone()
    lines = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    sums = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]
    smooth[:, :, 1:-1, 1:-1] = (sums + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return _extrapolate(smooth, images, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value as a whole number, 1 to 8 of them."""
    step = torch.exp2(8 - bits)[:, None, None, None]
    return (images.round() / step).floor_() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold."""
    return torch.where(images < threshold[:, None, None, None], images, 255 - images)


def to_grey(images: Tensor) -> Tensor:
    """Return brightness, shape (batch, 1, height, width): the eye's for three channels, else their mean."""
    if images.shape[1] != len(LUMA):
        return images.mean(dim=1, keepdim=True)
    return LUMA[0] * images[:, 0:1] + LUMA[1] * images[:, 1:2] + LUMA[2] * images[:, 2:3]


def _extrapolate(without: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    factor = factor[:, None, None, None]
    return (images * factor).add_(without * (1 - factor)).clamp_(0, 255)
