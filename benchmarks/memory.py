"""How much memory does one more trial take?

Runs real searches with 1, 2, 4 and 8 trials at once on a Ray of as many CPUs, once on all of CIFAR-100 (153.6 MB of
pixels) and once on 200 of its images, and reads the proportional set size (PSS) of every trial's process from the
kernel while all of them train. A page that several processes share counts for each by its part, so the sum over all is
what they take together.

- *the process itself*: the slope of that sum over the number of trials, with 200 images;
- *the data's cost of one more trial*: how much steeper the slope is with all images.

    python benchmarks/memory.py CIFAR100_FOLDER --output benchmarks/results/memory.json
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

TRIALS = (1, 2, 4, 8)
SETTLE_S = 15.0  # of training after the last trial began
SPEC = """
name: memory
data: {{name: parquet, path: {folder}, label_column: fine_label, validation: 0.5}}
space:
  architecture: simple_cnn
  learning_rate: {{loguniform: [1e-4, 1e-3]}}
  batch_size: 32
stages:
  only: {{trials: {trials}, max_epochs: 100000, halving: none, sampler: random}}
resources: {{gpus: 0, cpus: 1, trials_at_once: {trials}}}
tracking: {{mlflow: off}}
"""


def read_pss(process: int) -> dict[str, int]:
    """Read a process's memory by kind, in bytes."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = re.findall(r"^(Pss\w*|Rss|Private_Dirty):\s+(\d+) kB", text, re.MULTILINE)
    return {kind: int(size) * 1024 for kind, size in found}


def find_trials() -> list[int]:
    """Find the processes that train, by the name that Ray gives them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::ResourceTrainable"):
            found.append(int(folder.name))
    return found


def measure(data: Path, trials: int, folder: Path) -> dict[str, int]:
    """Run a search of so many trials at once for a while; return the sums over their processes."""
    spec = folder / "memory.yaml"
    spec.write_text(SPEC.format(folder=data, trials=trials))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": trials, "object_store_memory": 10**8})
    tuner = str(Path(sys.executable).with_name("tuner"))
    command = [tuner, "run", str(spec), "--ray-address", cluster.address]
    search = subprocess.Popen([*command, "--results", str(folder / "results"), "--cache", str(folder / "cache")])
    try:
        deadline = time.monotonic() + 600
        running: list[Path] = []
        while len(running) < trials:
            if search.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the search did not get all its trials to run")
            time.sleep(1)
            running = list((folder / "results").glob("memory/checkpoints/*/last.pt"))
        time.sleep(SETTLE_S)
        while len(found := find_trials()) < trials and time.monotonic() < deadline:
            time.sleep(0.1)  # a process has another name for a moment between two calls
        processes = [read_pss(process) for process in found]
    finally:
        search.terminate()
        search.wait(timeout=120)
        cluster.shutdown()
    if len(processes) != trials:
        raise RuntimeError(f"{trials} processes were expected, found {len(processes)}")
    return {kind: sum(one[kind] for one in processes) for kind in processes[0]}


def write_few(source: Path, target: Path) -> None:
    """Write a data set of two images a class."""
    table = pq.read_table(source / "train.parquet")
    labels = table["fine_label"].to_numpy()
    rows = np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(100)])
    target.mkdir()
    pq.write_table(table.take(rows), target / "train.parquet")


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with CIFAR-100's train.parquet")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"pss_bytes": {}}
    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch, "few")
        write_few(given.folder, few)
        for name, data in (("few", few), ("all", given.folder)):
            sums = {}
            for trials in TRIALS:
                folder = Path(scratch, f"{name}-{trials}")
                folder.mkdir()
                sums[trials] = measure(data.absolute(), trials, folder)
                rounded = {kind: round(size / 2**20) for kind, size in sums[trials].items()}
                print(name, trials, rounded, "MiB", flush=True)
            found["pss_bytes"][name] = sums
    slopes = {
        name: float(np.polyfit(TRIALS, [sums[trials]["Pss"] for trials in TRIALS], 1)[0])
        for name, sums in found["pss_bytes"].items()
    }
    found["process_bytes"] = slopes["few"]
    found["data_bytes_per_trial"] = slopes["all"] - slopes["few"]
    found["share_of_data_set"] = found["data_bytes_per_trial"] / (50_000 * 32 * 32 * 3)
    found["cpus"] = os.cpu_count()
    print({key: value for key, value in found.items() if key != "pss_bytes"})
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
