"""Does the search find better configurations than others do, with the same number of epochs?

Every method drives the same simulated workers on problems whose learning curves are known, and is measured by the
regret of what it would recommend after a quarter, a half and all of the budget. Methods of other projects want an
environment of their own, see requirements.txt; the values of several environments go into one file.

    cd benchmarks
    python -m search_quality --methods tuner random_asha --problems hartmann3-good crossing --budgets 12 50 --seeds 30 \
        --output results/search_quality.parquet
"""

import argparse
import itertools
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

os.environ.setdefault("OMP_NUM_THREADS", "1")  # runs go side by side

from search_quality.measure import OURS, SHARES, measure
from search_quality.peers import PEERS
from search_quality.problems import MAX_EPOCHS, PROBLEMS

KEY = ("problem", "method", "budget", "workers", "seed")


def run(key: tuple[str, str, int, int, int]) -> dict[str, Any]:
    """Run one search and return its row."""
    problem_name, method, budget, workers, seed = key
    problem, epochs = PROBLEMS[problem_name](), budget * MAX_EPOCHS
    build = OURS.get(method) or PEERS[method]
    found = measure(problem, build(problem, workers, epochs, seed), workers=workers, budget=epochs)
    regrets = {f"regret_{share:.0%}".rstrip("%"): regret for share, regret in zip(SHARES, found.regrets, strict=True)}
    measured = {"epochs": found.epochs, "trials": found.trials, "seconds": found.seconds}
    return dict(zip(KEY, key, strict=True)) | regrets | measured


def merge(rows: list[dict[str, Any]], path: Path) -> None:
    """Put rows into a file, in the place of older ones of the same search."""
    old = pq.read_table(path).to_pylist() if path.is_file() else []
    merged = {tuple(row[name] for name in KEY): row for row in [*old, *rows]}
    pq.write_table(pa.Table.from_pylist([merged[key] for key in sorted(merged)]), path)


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
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    keys = list(itertools.product(given.problems, given.methods, given.budgets, given.workers, seeds))
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for row in pool.imap(run, keys):
            rows.append(row)
            if len(rows) % given.seeds == 0:
                show(rows[-given.seeds :])
                if given.output:
                    merge(rows, given.output)


def show(rows: list[dict[str, Any]]) -> None:
    """Print one line for the seeds of a method."""
    name = "  ".join(str(rows[0][key]) for key in KEY[:-1])
    regrets = [np.mean([row[key] for row in rows]) for key in rows[0] if key.startswith("regret")]
    print(
        name,
        " ".join(f"{regret:8.4f}" for regret in regrets),
        f"{np.mean([r['seconds'] for r in rows]):.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
