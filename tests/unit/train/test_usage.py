"""What a training uses of its machine."""

import mmap
import time

from tuner.train.usage import UsageMeter


def burn(seconds: float) -> None:
    """Keep one core busy for so long of this process's time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_busy_process_shows_and_an_idle_one_does_not() -> None:
    meter = UsageMeter("cpu")
    burn(0.2)
    busy = meter.read()
    time.sleep(0.2)
    idle = meter.read()
    assert busy["system/process_cpu_utilization_percentage"] > 4 * idle["system/process_cpu_utilization_percentage"]
    assert busy["system/process_cpu_utilization_percentage"] > 0


def test_memory_that_is_taken_shows() -> None:
    meter = UsageMeter("cpu")
    before = meter.read()["system/process_memory_usage_megabytes"]
    with mmap.mmap(-1, 50_000_000) as taken:  # what Python gives back it may take again without asking for more
        taken.write(b"x" * len(taken))
        after = meter.read()["system/process_memory_usage_megabytes"]
    assert 40 < after - before < 150


def test_what_is_measured_on_a_cpu_is_few_short_numbers() -> None:
    used = UsageMeter("cpu").read()
    assert sorted(used) == [
        "system/cpu_utilization_percentage",
        "system/process_cpu_utilization_percentage",
        "system/process_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
    ]
    assert all(value == round(value, 1) for value in used.values())
