"""Rotation, shear and translation, in one sampling."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def build_affine(
    *,
    angle: Tensor,
    shear_x: Tensor | None = None,
    shear_y: Tensor | None = None,
    shift_x: Tensor | None = None,
    shift_y: Tensor | None = None,
) -> Tensor:
    """Build the maps that say for each pixel of a new image where in the old one it comes from.

    Parameters
    ----------
    angle : float tensor, shape (batch,), in radians
        Of a rotation about the centre; the new image is turned counter-clockwise by it.
    shear_x, shear_y : float tensor, shape (batch,), or None
        Pixels to go along one axis for a pixel of the other, before the rotation; None for zero.
    shift_x, shift_y : float tensor, shape (batch,), in pixels, or None
        To go right and down; None for zero.

    Returns
    -------
    float tensor, shape (batch, 3, 3)
        Matrices on (x, y, 1), in pixels from the centre, x to the right and y down.
    """
    zero = torch.zeros_like(angle)
    shear_x, shear_y, shift_x, shift_y = (
        zero if amount is None else amount for amount in (shear_x, shear_y, shift_x, shift_y)
    )
    cosine, sine = angle.cos(), angle.sin()
    entries = (
        *(cosine - sine * shear_y, cosine * shear_x - sine, shift_x),
        *(sine + cosine * shear_y, cosine + sine * shear_x, shift_y),
        *(zero, zero, torch.ones_like(angle)),
    )
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def compose(one: Tensor, other: Tensor) -> Tensor:
    """Return the products of two batches of matrices, in full precision whatever matrix products are set to."""
    return (one[:, :, :, None] * other[:, None, :, :]).sum(dim=2)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample each image where its matrix says, bilinearly, with black outside.

    Parameters
    ----------
    images : float tensor, shape (batch, channels, height, width)
        Square or not, values 0 to 255.
    matrices : float tensor, shape (batch, 3, 3)
        As of ``build_affine``.

    Returns
    -------
    float tensor, shape (batch, channels, height, width)
        New images.
    """
    height, width = images.shape[2:]
    x, y = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (width, height))
    # not by affine_grid, whose matrix product a GPU may round to ten bits: a fifth of a pixel of 224
    places = matrices[:, :2, 0, None, None] * x + matrices[:, :2, 1, None, None] * y[:, None]
    places = places + matrices[:, :2, 2, None, None]
    grid = torch.stack((places[:, 0] * (2 / width), places[:, 1] * (2 / height)), dim=3)
    sampled = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # interpolation may leave the range by a rounding error
    return sampled.clamp_(0, 255)
