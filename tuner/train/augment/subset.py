"""Changes of some images of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor


def change_some(images: Tensor, chosen: Tensor, change: Callable[..., Tensor], *amounts: Tensor) -> Tensor:
    """Change the images that are chosen.

    Parameters
    ----------
    images : tensor, shape (batch, ...), contiguous
        May be overwritten.
    chosen : bool tensor, shape (batch,)
        Which ones.
    change : function
        From some images and their amounts to as many images of the same shape and type.
    *amounts : tensors, shape (batch, ...)
        What else the function takes of each image.

    Returns
    -------
    tensor, shape (batch, ...), contiguous
        The same images but for those that were chosen.

    Notes
    -----
    A CPU computes only what is needed. A GPU would have to wait for the number of the chosen, and changes all.
    """
    if images.device.type == "cpu":
        return _change_rows(images, chosen, change, *amounts)
    return torch.where(chosen[:, None, None, None], change(images, *amounts), images)


def _change_rows(images: Tensor, chosen: Tensor, change: Callable[..., Tensor], *amounts: Tensor) -> Tensor:
    """Change only the chosen ones, in place; NumPy copies whole images where torch goes by the number."""
    rows = chosen.numpy().nonzero()[0]
    if len(rows) == 0:
        return images
    values = images.numpy()
    values[rows] = change(torch.from_numpy(values[rows]), *(amount[chosen] for amount in amounts)).numpy()
    return images
