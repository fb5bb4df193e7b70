"""Does the band that ``tuner plan`` foretells hold the time that the search then takes?

Twenty small searches of some 10 to 40 s on an idle core or two. Each is planned, and at once run by ``tuner run`` as a
user would; what counts is whether the command's wall time lies between the 10th and the 90th percentile. Written down
beside it: the search's own time, from the first trial to the end, the epochs, and the machine's load before and after,
since whatever else it does between the two moves one and not the other. What the output file has is not run again.

    python benchmarks/plan.py --output benchmarks/results/plan.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DIGITS = {"name": "digits"}
FASHION = {"name": "fashion_mnist", "fraction": 0.03, "validation": 0.02}
RATE, L2 = {"loguniform": [1e-3, 0.3]}, {"loguniform": [1e-7, 1e-3]}
CNN = {"simple_cnn": {"depth": {"int": [1, 3]}, "width": {"logint": [8, 32]}}}
RESNET = {"resnet": {"depth": 8, "width": {"choice": [8, 16]}}}
VIT = {"vit": {"patch": 2, "depth": {"int": [1, 3]}, "heads": 2, "width": 32}}
PLAIN, BATCHES = {"learning_rate": RATE}, {"learning_rate": RATE, "batch_size": {"choice": [32, 64, 128]}}


def describe(data: Any, families: Any, others: Any, stages: Any, at_once: int, **more: Any) -> dict[str, Any]:
    """Write one search."""
    architecture = families if isinstance(families, str) else {"choice": families}
    resources = {"trials_at_once": at_once}
    return {
        "data": data,
        "space": {"architecture": architecture, **others},
        "stages": stages,
        "resources": resources,
    } | more


def stage(trials: int, max_epochs: int, **more: Any) -> dict[str, Any]:
    """Write one stage."""
    return {"trials": trials, "max_epochs": max_epochs, **more}


SEARCHES = {
    "lenet-all": describe(DIGITS, "lenet", PLAIN, {"only": stage(12, 9, halving="none", sampler="random")}, 2),
    "lenet-one": describe(DIGITS, "lenet", BATCHES, {"only": stage(20, 9)}, 1),
    "cnn": describe(DIGITS, CNN, BATCHES | {"l2": L2}, {"only": stage(20, 9)}, 2),
    "cnn-twice-one": describe(DIGITS, CNN, PLAIN, {"coarse": stage(10, 6), "fine": stage(5, 12, narrow={})}, 1),
    "families-rank": describe(DIGITS, CNN | {"lenet": {}}, PLAIN, {"only": stage(20, 9, halving={"rule": "rank"})}, 2),
    "resnet": describe(DIGITS, RESNET, PLAIN, {"only": stage(8, 6)}, 2),
    "resnet-one": describe(DIGITS, RESNET, PLAIN, {"only": stage(6, 4, halving="none")}, 1),
    "fashion-lenet": describe(FASHION, "lenet", PLAIN, {"only": stage(12, 6)}, 2),
    "fashion-cnn-one": describe(FASHION, CNN, PLAIN, {"only": stage(8, 4)}, 1),
    "fashion-twice": describe(
        FASHION, CNN | {"lenet": {}}, BATCHES, {"coarse": stage(9, 3), "fine": stage(4, 6, narrow={})}, 2
    ),
    "tpe": describe(DIGITS, CNN, BATCHES, {"only": stage(24, 6, sampler="tpe")}, 2),
    "optimizers-one": describe(
        DIGITS, "lenet", PLAIN | {"optimizer": {"choice": {"sgd": {}, "adamw": {}}}}, {"only": stage(16, 9)}, 1
    ),
    "epochs-limited": describe(DIGITS, CNN, PLAIN, {"only": stage(100, 9)}, 2, limits={"epochs": 60}),
    "time-limited-one": describe(DIGITS, CNN, PLAIN, {"only": stage(200, 9)}, 1, limits={"time": "12s"}),
    "growing-data": describe(DIGITS, CNN, PLAIN, {"only": stage(16, 9, fidelity="data")}, 2),
    "loss-median-one": describe(
        DIGITS, "lenet", PLAIN, {"only": stage(16, 9, halving={"rule": "median"})}, 1, objective="val_loss"
    ),
    "augmented": describe(
        FASHION, "lenet", PLAIN | {"crop_padding": 2, "cutout": {"uniform": [0.0, 0.5]}}, {"only": stage(10, 6)}, 2
    ),
    "vit": describe(DIGITS, VIT, PLAIN, {"only": stage(10, 6)}, 2),
    "three-families": describe(
        DIGITS, CNN | {"lenet": {}} | RESNET, BATCHES, {"coarse": stage(12, 3), "fine": stage(6, 6, narrow={})}, 2
    ),
    "svm-one": describe(DIGITS, {"hog_svm": {}, "lenet": {}}, PLAIN, {"only": stage(16, 9)}, 1),
}  # fmt: skip


def call(folder: Path, *arguments: str) -> tuple[str, float]:
    """Run a command as a user would; return what it printed, and its wall time in seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"tuner {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout, time.monotonic() - began


def measure(name: str, search: dict[str, Any]) -> dict[str, Any]:
    """Plan a search and run it."""
    with tempfile.TemporaryDirectory(prefix="plan-") as temporary:
        folder = Path(temporary)
        (folder / "search.yaml").write_text(json.dumps({"name": name, **search}))
        loads = [os.getloadavg()[0]]
        printed, plan_s = call(folder, "plan", "search.yaml", "--json")
        planned = json.loads(printed)
        loads.append(os.getloadavg()[0])
        _, wall_s = call(folder, "run", "search.yaml")
        loads.append(os.getloadavg()[0])
        from tuner.track.ledger import Ledger

        stages = Ledger.open(folder / "results" / name).stages()
        found: dict[str, float] = {
            "wall_s": wall_s,
            "seconds": sum(one.attributes["elapsed_s"] for one in stages),
            "epochs": sum(len(trial.epochs) for one in stages for trial in one.trials()),
        }
    return {
        **{key: {"planned": planned[key], "real": found[key]} for key in found},
        "is_inside": {key: planned[key][0] <= found[key] <= planned[key][2] for key in found},
        "plan_s": plan_s,
        "start_up_s": planned["start_up_s"],
        "unsteadiness": planned["unsteadiness"],
        "loads": loads,
    }


def main() -> None:
    """Measure what the output file has not got, and say how often the bands held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(given.output.read_text())["searches"] if given.output.exists() else {}
    for name in given.searches:
        if name not in results:
            results[name] = measure(name, SEARCHES[name])
            print(name, json.dumps(results[name]), flush=True)
        held = {key: sum(one["is_inside"][key] for one in results.values()) for key in ("wall_s", "seconds", "epochs")}
        given.output.write_text(json.dumps({"held": held, "of": len(results), "searches": results}, indent=1) + "\n")
    print(held, "of", len(results))


if __name__ == "__main__":
    main()
