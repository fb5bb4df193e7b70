"""The processes that train one configuration together; usually there is one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Workers:
    """One process's place among those that train the same configuration.

    With more than one, torch's default process group must be there.

    Attributes
    ----------
    rank : int, from 0
        Which one this is.
    size : int, at least 1
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    def share(self, rows: Tensor) -> Tensor:
        """Take this worker's part of a batch: all parts are of equal size up to one image."""
        return rows if self.is_alone else rows.tensor_split(self.size)[self.rank]

    def add(self, values: Tensor) -> Tensor:
        """Add up every worker's values, so that all have the same sums."""
        if not self.is_alone:
            torch.distributed.all_reduce(values)
        return values

    def align(self, model: nn.Module) -> None:
        """Give every worker the first one's running statistics, which are what is saved."""
        if not self.is_alone:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Let a model's gradients be averaged over the workers, in ``DistributedDataParallel``.

        On GPUs, batch normalisation sees the whole batch; on CPUs, where torch cannot do that, each worker's part.
        """
        if self.is_alone:
            return model
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, broadcast_buffers=True)
