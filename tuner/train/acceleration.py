"""How a device is used: the precision of products, the order of memory, compilation."""

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.spec.hyperparameters import Hyperparameters

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BFLOAT16_CAPABILITY = 8  # of CUDA devices, from which on bfloat16 and TF32 have units of their own
FLOAT16_CAPABILITY = 7
BUSY_MULTIPLY_ADDS = 10**9  # of a batch, from which on a GPU computes longer than a CPU takes to start it all
HALVINGS = 16  # of the first scale of a loss in float16, until it is one


@dataclass(frozen=True)
class Acceleration:
    """What ``auto`` became on one device.

    Attributes
    ----------
    device : str
        The device's name.
    precision : str
        Of products while training: float32, bfloat16 or float16.
    channels_last : bool
        Whether the channels of a pixel lie together.
    compile : bool
        Whether the network is compiled.
    tf32 : bool
        Whether float32 products may round their factors to 10 bits.
    """

    device: str
    precision: str
    channels_last: bool
    compile: bool
    tf32: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The order in memory of images, maps and filters."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Run products in this precision within the block."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=DTYPES[self.precision])

    def apply(self) -> None:
        """Set what torch keeps for the whole process, which the trial before may have set otherwise."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32


def choose_acceleration(hyperparameters: Hyperparameters, device: torch.device, num_multiply_adds: int) -> Acceleration:
    """Decide what ``auto`` means on a device.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Whatever is not ``auto`` is kept.
    device : torch.device
        Where the training runs.
    num_multiply_adds : int
        Of the network for one image.

    Notes
    -----
    On a CPU: float32, channels last. Measured there beside float32, bfloat16 has 0.15 times the speed and
    compilation 0.7 times; channels last has 1.35 times that of channels first. On a CUDA device: channels last, TF32
    from capability 8 on, and for batches that keep it busy bfloat16 there, or float16 with a scaled loss at 7; a tiny
    network waits for the CPU to start its kernels, of which autocast adds some. On an H200 float32 has 1.2 to 1.3
    times bfloat16's speed with a CNN of three layers, and 0.86 with a ResNet-8 or 0.74 with a ResNet-18 once eight
    trainings share the GPU (benchmarks/gpu.py). ``compile`` is off everywhere, as most trials of a search are stopped
    before a minute of compilation pays.
    """
    given = hyperparameters
    capability = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    is_new, is_busy = capability >= BFLOAT16_CAPABILITY, num_multiply_adds * given.batch_size >= BUSY_MULTIPLY_ADDS
    half = "bfloat16" if is_new else "float16" if capability >= FLOAT16_CAPABILITY else "float32"
    precision = half if is_busy else "float32"
    return Acceleration(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}",
        precision=precision if given.precision == "auto" else given.precision,
        channels_last=_decide(given.channels_last, True),
        compile=_decide(given.compile, False),
        tf32=_decide(given.tf32, is_new),
    )


def _decide(given: bool | str, automatic: bool) -> bool:
    return given if isinstance(given, bool) else automatic


class LossScaler:
    """Scales the loss so that small gradients are not lost in float16, and takes the scale out of the gradients.

    The scale doubles after 2,000 steps without an overflow, and is halved by one, whose step is left out.

    References
    ----------
    .. [1] Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv:1710.03740, section 3.2.
    """

    def __init__(self, *, is_needed: bool) -> None:
        self.is_needed = is_needed
        self._scale = 2.0**HALVINGS
        self._good_steps = 0

    def scale(self, loss: Tensor) -> Tensor:
        """Scale a loss before its gradients are computed."""
        return loss * self._scale if self.is_needed else loss

    def unscale(self, gradients: list[Tensor]) -> bool:
        """Take the scale out of all gradients, and say whether they are sound; if not, the step is to be left out."""
        if not self.is_needed:
            return True
        torch._foreach_mul_(gradients, 1 / self._scale)
        is_sound = bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())
        self._good_steps = self._good_steps + 1 if is_sound else 0
        if not is_sound:
            self._scale = max(self._scale / 2, 1.0)
        elif self._good_steps % 2000 == 0:
            self._scale *= 2
        return is_sound

    def state_dict(self) -> dict[str, float]:
        """Return what the next step depends on."""
        return {"scale": self._scale, "good_steps": self._good_steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what another scaler's ``state_dict`` returned."""
        self._scale, self._good_steps = state["scale"], int(state["good_steps"])
