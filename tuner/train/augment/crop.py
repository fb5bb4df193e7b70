"""Crops of padded images, and mirror images."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tuner.train.augment.subset import change_some


class Cropper:
    """Cuts out of each padded image a piece of the size that the image had.

    Parameters
    ----------
    padding : int, at least 0
        Black pixels on each of the four sides.
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding
        self._padded = np.empty((0, 0, 0, 0), np.uint8)

    def __call__(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Crop.

        Parameters
        ----------
        images : uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
            Not overwritten.
        top, left : int64 tensors, shape (batch,), 0 to twice the padding
            Where each crop begins in the padded image, in pixels.

        Returns
        -------
        uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
            New images.
        """
        if images.device.type == "cpu":
            return self._crop_windows(images, top, left)
        return crop_pixels(images, top, left, self.padding)

    def _crop_windows(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Crop on a CPU: all possible crops are a view of the padded images, of which NumPy copies whole lines."""
        pixels = images.permute(0, 2, 3, 1).numpy()
        num_images, height, width, channels = pixels.shape
        margin = self.padding
        shape = (height + 2 * margin, width + 2 * margin, channels)
        if len(self._padded) < num_images or self._padded.shape[1:] != shape:
            self._padded = np.zeros((num_images, *shape), np.uint8)  # kept, since its border stays black
        padded = self._padded[:num_images]
        padded[:, margin : margin + height, margin : margin + width] = pixels
        by_image, by_line, by_pixel, by_channel = padded.strides
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (num_images, 2 * margin + 1, 2 * margin + 1, height, width * channels),
            (by_image, by_line, by_pixel, by_line, by_channel),
        )
        crops = windows[np.arange(num_images), top.numpy(), left.numpy()]
        return torch.from_numpy(crops).view(num_images, height, width, channels).permute(0, 3, 1, 2)


def crop_pixels(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Do what a ``Cropper`` does pixel by pixel, which suits a GPU."""
    num_images, _, height, width = images.shape
    padded = pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    device = images.device
    lines = top[:, None] + torch.arange(height, device=device)
    columns = left[:, None] + torch.arange(width, device=device)
    rows = torch.arange(num_images, device=device)
    return padded[rows[:, None, None], lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Swap left and right of the images that are chosen.

    Parameters
    ----------
    images : uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
        May be overwritten.
    chosen : bool tensor, shape (batch,)
        Which ones.

    Returns
    -------
    uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
        All images.
    """

    def swap(pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)  # torch flips this order of axes fastest

    return change_some(images.permute(0, 2, 3, 1), chosen, swap).permute(0, 3, 1, 2)
