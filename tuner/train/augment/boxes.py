"""Rectangles at random places of images."""

import torch
from torch import Tensor

BITS = {torch.uint8: torch.uint8, torch.float32: torch.int32}  # integers of the same size


def draw_boxes(
    count: int, image_size: tuple[int, int], box_size: tuple[int | Tensor, int | Tensor], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw rectangles whose centres are uniform over an image; what lies outside of it is cut off.

    Parameters
    ----------
    count : int
        How many.
    image_size, box_size : height and width, in pixels
        Of the images, and of all rectangles before they are cut off.
    generator : torch.Generator
        On the device where they are wanted.

    Returns
    -------
    lines : bool tensor, shape (count, height)
        Which lines of pixels each rectangle covers.
    columns : bool tensor, shape (count, width)
        Which columns it covers.
    """
    covered = []
    for side, box_side in zip(image_size, box_size, strict=True):
        centre = torch.randint(side, (count, 1), generator=generator, device=generator.device)
        start = centre - box_side // 2
        places = torch.arange(side, device=generator.device)
        covered.append((places >= start) & (places < start + box_side))
    lines, columns = covered
    return lines, columns


def fill_boxes(images: Tensor, lines: Tensor, columns: Tensor, content: Tensor) -> Tensor:
    """Put something else inside the rectangles.

    Parameters
    ----------
    images : uint8 or float32 tensor, shape (batch, channels, height, width), in channels-last order of memory
        Not overwritten.
    lines, columns : bool tensors, shapes (count, height) and (count, width)
        One rectangle an image, or one for all.
    content : tensor
        Other images, of the same shape, order and type; or one line of pixels for all, shape (width * channels,).

    Returns
    -------
    tensor, shape (batch, channels, height, width), in channels-last order of memory
        New images.
    """
    num_images, channels, height, width = images.shape
    shape = (num_images, height, width * channels)
    # by whole lines, and by bits in place of a condition: a CPU does both many values at a time
    bits = BITS[images.dtype]
    if content.dim() > 1:
        content = content.permute(0, 2, 3, 1).reshape(shape)
    values = columns[:, :, None].expand(-1, -1, channels).reshape(-1, 1, width * channels)
    mask = lines[:, :, None].to(bits).neg() & values.to(bits).neg()  # all bits of a value, or none
    old = images.permute(0, 2, 3, 1).reshape(shape).view(bits)
    filled = (old ^ content.view(bits)).bitwise_and_(mask).bitwise_xor_(old).view(images.dtype)
    return filled.view(num_images, height, width, channels).permute(0, 3, 1, 2)
