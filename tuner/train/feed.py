"""Images from where they lie to the device that trains, a batch at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PARTS_OF_FREE_MEMORY = 4  # the images may take one of them on a GPU; the rest is for training


class ImageFeed:
    """Batches of labelled images, chosen by their rows.

    Images stay bytes until they are on the device. On a CPU they stay in the file that is mapped. A GPU holds
    all of them if they fit comfortably; otherwise each batch is sent.

    Parameters
    ----------
    images : uint8 array, shape (num_images, height, width, channels)
        All images; not copied on a CPU.
    labels : int64 array, shape (num_images,)
        All labels.
    device : torch.device
        Where batches are wanted.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device) -> None:
        self.device = device
        self._images = torch.from_numpy(images)
        self._labels = torch.from_numpy(labels).to(device)
        if device.type == "cuda":
            free_bytes, _ = torch.cuda.mem_get_info(device)
            if images.nbytes <= free_bytes // PARTS_OF_FREE_MEMORY:
                self._images = self._images.to(device)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Bring some images and labels to the device.

        Parameters
        ----------
        rows : int64 tensor, shape (batch,), on the CPU
            Which ones.

        Returns
        -------
        images : uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
            Values 0 to 255.
        labels : int64 tensor, shape (batch,)
            Their classes.
        """
        images = self._images.index_select(0, rows.to(self._images.device, non_blocking=True))
        if images.device.type != self.device.type:  # cuda:0 and cuda are the same place and not equal
            images = images.pin_memory().to(self.device, non_blocking=True)
        labels = self._labels.index_select(0, rows.to(self.device, non_blocking=True))
        return images.permute(0, 3, 1, 2), labels
