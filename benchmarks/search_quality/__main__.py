"""Does the search find better configurations than others do, with the same number of epochs?

Every method drives the same simulated workers on problems whose learning curves are known, and is measured by the
regret of what it would recommend after a quarter, a half and all of the budget. Methods of other projects want an
environment of their own, see requirements.txt; what several environments found goes into one file. What the file has
already is not run again.

    cd benchmarks
    python -m search_quality --methods tuner random_asha --problems hartmann3-good crossing --budgets 12 50 --seeds 30 \
        --output results/search_quality.parquet
    python -m search_quality.compare results/search_quality.parquet
"""

import argparse
import itertools
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs go side by side

from search_quality.measure import OURS
from search_quality.peers import PEERS
from search_quality.problems import PROBLEMS
from search_quality.runs import Key, merge, read, run

WRITE_EVERY_S = 20.0


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=[*OURS, *PEERS], metavar="METHOD")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--budgets", nargs="+", type=int, default=[50], help="in full trainings")
    parser.add_argument("--workers", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    # seeds go last, so that whenever this is cut off all have come equally far
    asked = [
        Key(problem, method, budget, workers, seed)
        for seed, budget, workers, problem, method in itertools.product(
            seeds, given.budgets, given.workers, given.problems, given.methods
        )
    ]
    known = read(given.output)
    todo = [key for key in asked if key not in known]
    print(f"{len(asked) - len(todo)} of {len(asked)} searches are in {given.output}", flush=True)
    rows: list[dict[str, Any]] = []
    written = time.monotonic()
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        futures: list[Future[dict[str, Any]]] = [pool.submit(run, key) for key in todo]
        for future in as_completed(futures):
            if (error := future.exception()) is not None:
                print(f"a search failed, and is left out: {type(error).__name__}: {error}", flush=True)
                continue
            rows.append(future.result())
            if time.monotonic() - written >= WRITE_EVERY_S:
                merge(rows, given.output)
                rows, written = [], time.monotonic()
    if rows:
        merge(rows, given.output)
    rows_of_all = read(given.output)
    show([key for key in asked if key in rows_of_all], rows_of_all)


def show(asked: list[Key], rows: dict[Key, dict[str, Any]]) -> None:
    """Print the mean regrets of each method, and the seconds that it took to decide."""
    for cell in dict.fromkeys(key[:-1] for key in asked):
        own = [rows[key] for key in asked if key[:-1] == cell]
        regrets = [np.mean([row[name] for row in own]) for name in own[0] if name.startswith("regret")]
        seconds = np.mean([row["seconds"] for row in own])
        name = "  ".join(map(str, cell))
        print(f"{name:50} {' '.join(f'{regret:8.4f}' for regret in regrets)} {seconds:6.1f} s")


if __name__ == "__main__":
    main()
