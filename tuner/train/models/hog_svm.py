"""Histograms of oriented gradients, and a linear layer for a support vector machine."""

import math

import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import HogSvm
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

BLOCK = 2  # cells a side of a block
CLIPPED = 0.2  # the largest share of a block that one bin may be
SMALLEST_NORM = 1e-5  # added, squared, to a block's squared norm
SMALLEST_CELL = 2  # pixels a side


class Hog(nn.Module):
    """Histograms of oriented gradients, without a weight.

    Parameters
    ----------
    cell_size : int
        Side of a cell in pixels; what is left over at the right and the bottom is left out.
    orientations : int
        Bins of a histogram over half a turn: a gradient counts as its opposite does.

    Notes
    -----
    Gradients are differences between the neighbours on both sides, zero along the edge of the image; of several
    channels a pixel takes the one with the longest gradient. Each pixel counts with the length of its gradient, in the
    one bin and the one cell that it lies in: there is no interpolation between bins or cells, which the paper has.
    Blocks of 2x2 cells overlap by a cell, and each is divided by its norm, clipped at 0.2 and divided once more.
    Where the number of bins is a multiple of 4, one begins at exactly 45 degrees, and rounding in the pixel values
    decides to which side a diagonal edge goes.

    References
    ----------
    .. [1] Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005, section 6.
    """

    def __init__(self, cell_size: int, orientations: int) -> None:
        super().__init__()
        self.cell_size = cell_size
        self.orientations = orientations

    def forward(self, images: Tensor) -> Tensor:
        """Describe images.

        Parameters
        ----------
        images : float tensor, shape (batch, channels, height, width)
            Pixel values from 0 to 1. A scale and an offset change little: blocks of next to no contrast alone.

        Returns
        -------
        float tensor, shape (batch, block rows * block columns * 4 * orientations), values 0 to 1
            Row of blocks, column of blocks, row and column of the cell in its block, bin.
        """
        down, across = _find_gradients(images)
        length = torch.hypot(down, across)
        # many edges are exactly vertical or diagonal, and many bins begin there: float32 would round them to and fro
        angle = torch.atan2(down.double(), across.double()).rad2deg().remainder(180)
        step = 180 / self.orientations
        bins = [
            length.where((angle >= step * position) & (angle < step * (position + 1)), 0)
            for position in range(self.orientations)
        ]
        cells = torch.stack([nn.functional.avg_pool2d(one, self.cell_size) for one in bins], dim=-1)
        blocks = torch.stack([cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]], dim=3)
        flat = _normalise(_normalise(blocks.flatten(3)).clamp(max=CLIPPED))
        return flat.flatten(1)

    def extra_repr(self) -> str:
        """Say the size of a cell and the number of bins."""
        return f"cell_size={self.cell_size}, orientations={self.orientations}"


def build_hog_svm(
    architecture: HogSvm,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> nn.Sequential:
    """Build histograms of oriented gradients and a dense layer.

    Parameters
    ----------
    architecture : HogSvm
        Side of a cell and bins of its histogram. ``C`` belongs to the loss, not to the network.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        On the histograms.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Sequential
        From float (batch, channels, height, width), values 0 to 1, to float (batch, num_classes).

    Notes
    -----
    In images with room for fewer than two cells a side, a cell is half the shorter side, so that one block fits: 4
    pixels at 8x8.
    """
    height, width, _ = image_shape
    cell = max(SMALLEST_CELL, min(architecture.cell_size, height // BLOCK, width // BLOCK))
    num_blocks = math.prod(side // cell - BLOCK + 1 for side in (height, width))
    dense = nn.Linear(num_blocks * BLOCK**2 * architecture.orientations, num_classes)
    initialise(dense, "none", randomness.weights)
    return nn.Sequential(Hog(cell, architecture.orientations), Dropout(dropout, randomness.dropout), dense)


def _find_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients down and across, float (batch, height, width), of the channel where they are longest."""
    down = nn.functional.pad(images[:, :, 2:] - images[:, :, :-2], (0, 0, 1, 1))
    across = nn.functional.pad(images[:, :, :, 2:] - images[:, :, :, :-2], (1, 1))
    if images.shape[1] == 1:
        return down[:, 0], across[:, 0]
    longest = torch.hypot(down, across).argmax(1, keepdim=True)
    return down.gather(1, longest)[:, 0], across.gather(1, longest)[:, 0]


def _normalise(blocks: Tensor) -> Tensor:
    """Divide by the norm over the last dimension."""
    return blocks / (blocks.square().sum(-1, keepdim=True) + SMALLEST_NORM**2).sqrt()
