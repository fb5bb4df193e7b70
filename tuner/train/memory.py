"""How much memory a training takes, and what happens when there is too little."""

import contextlib
import gc
import re
import resource
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from tuner.errors import OutOfMemoryError

PROCESS = Path("/proc/self")
# what torch, oneDNN, C++ and CUDA's libraries say in a plain RuntimeError, where torch has no exception of its own
ONEDNN = "could not create a"
OUT_OF_MEMORY = ("DefaultCPUAllocator", ONEDNN, "std::bad_alloc", "_ALLOC_FAILED", "CUDA error: out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )


def give_up_onednn(error: BaseException) -> None:
    """Do without oneDNN for the rest of the process if it is what ran out of memory.

    However much is free afterwards, it then goes on to fail for whatever it has not set up before, on more than one
    image at once: all later trainings of the process would take an image after the other.
    """
    if ONEDNN in str(error):
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]


def watch_peak(device: torch.device) -> None:
    """Let the peak of memory be that from now on."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call] # the statistics are not there before
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # where the kernel has no such file, the peak is that of the process's life
        (PROCESS / "clear_refs").write_text("5")


def measure_peak(device: torch.device) -> int:
    """Measure the peak of memory since ``watch_peak``.

    Returns
    -------
    int, in bytes
        On a GPU what tensors took there; otherwise the resident memory of the whole process, shared pages included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def explained(device: torch.device, advice: str) -> Iterator[None]:
    """Turn an allocation that fails within the block into an error that says what was needed.

    Parameters
    ----------
    device : torch.device
        Where the training runs.
    advice : str
        What to do about it.

    Raises
    ------
    OutOfMemoryError
        Instead of torch's errors.
    MemoryError
        Never; it becomes the one above.
    RuntimeError
        What the block raised for another reason.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        give_up_onednn(error)
        peak, reason = measure_peak(device) / 2**30, " ".join(str(error).split())[:300]
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
        raise OutOfMemoryError(
            f"out of memory on {device}: {peak:.2f} GiB were in use at the peak and more was needed ({reason}); "
            f"{advice}"
        ) from None


def release(device: torch.device) -> None:
    """Give back what a failed or finished training leaves, so that the next one finds a clean device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
