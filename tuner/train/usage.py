"""How busy the machine is while a training runs: processor, memory and GPU, under the names that MLflow gives them."""

import contextlib
import time
from typing import Any

import psutil
import pynvml
import torch

PREFIX = "system/"
"""What the names of these metrics begin with: MLflow shows such on a page of their own."""


class UsageMeter:
    """Says what was used since it was last asked.

    Nothing runs between two questions: the kernel counts processor time, and NVIDIA's driver keeps its own samples of
    the last seconds.

    Parameters
    ----------
    device : str
        A device of torch: where the training runs.

    Notes
    -----
    ``cpu_utilization_percentage`` and ``system_memory_usage_percentage`` are of the whole machine, all that runs on it
    included, and so are the ``gpu_0`` metrics of the whole GPU, which is the trial's first. The ``process`` metrics are
    of the training's own process; 100 percent is one core. A GPU whose driver does not say how busy it is, as a part of
    one that was divided (MIG), has no utilization.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._process = psutil.Process()
        self._asked_at, self._cpu_s = time.perf_counter(), time.process_time()
        psutil.cpu_percent()
        self._handle, self._gpu_seen_us = _find_gpu(self._device), int(time.time() * 1e6)

    def read(self) -> dict[str, float]:
        """Measure.

        Returns
        -------
        dict from names to float
            Percentages, and megabytes of a million bytes, to one decimal: they are recorded with every epoch.
        """
        now, cpu_s = time.perf_counter(), time.process_time()
        wall_s = max(now - self._asked_at, 1e-9)
        used = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_percentage": psutil.virtual_memory().percent,
            "process_cpu_utilization_percentage": 100 * (cpu_s - self._cpu_s) / wall_s,
            "process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
        }
        self._asked_at, self._cpu_s = now, cpu_s
        if self._device.type == "cuda":
            used |= self._read_gpu()
        return {PREFIX + name: round(value, 1) for name, value in used.items()}

    def _read_gpu(self) -> dict[str, float]:
        free, total = torch.cuda.mem_get_info(self._device)
        used = {
            "gpu_0_memory_usage_megabytes": (total - free) / 1e6,
            "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
        }
        if self._handle is not None:
            with contextlib.suppress(pynvml.NVMLError):
                used["gpu_0_utilization_percentage"] = self._read_gpu_utilization()
        return used

    def _read_gpu_utilization(self) -> float:
        """Return the mean of the samples that the driver kept since it was last asked, or its latest one.

        Raises
        ------
        NVMLError
            If the driver cannot say.
        """
        samples = []
        with contextlib.suppress(pynvml.NVMLError):  # none since then
            _, samples = pynvml.nvmlDeviceGetSamples(
                self._handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, self._gpu_seen_us
            )
        samples = [sample for sample in samples if sample.timeStamp > self._gpu_seen_us]
        if not samples:
            return float(pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        self._gpu_seen_us = samples[-1].timeStamp
        return float(sum(sample.sampleValue.uiVal for sample in samples) / len(samples))


def _find_gpu(device: torch.device) -> Any:
    """Return a GPU as NVIDIA's library knows it; None if there is no such library, or it does not know the GPU."""
    if device.type != "cuda":
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:
        return None
