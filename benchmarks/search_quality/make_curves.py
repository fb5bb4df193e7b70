"""Train random configurations to the end and keep their learning curves.

They are what ``tuner run`` would train with the same file and seed, one after the other in this process: for networks
that train in seconds, other processes to wait for would cost more than the training. What was trained stays: a run
that is cut off goes on with the same command, and a run with another seed adds to the table.

    cd benchmarks
    python -m search_quality.make_curves digits --trials 600
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search_quality.curve_surrogate import SURROGATES, find_spec, find_table
from tuner.spec import load_spec
from tuner.spec.search import SearchSpec
from tuner.spec.space import Config
from tuner.strategy.simulate import Search
from tuner.strategy.stage_search import derive_stage_seed
from tuner.train.data import prepare
from tuner.train.run import run_training, use_threads

WRITE_EVERY_S = 30.0


def train(spec: SearchSpec, config: Config, number: int, cache: Path) -> dict[str, Any]:
    """Train one configuration, with the seed that the trial of its number has, and return its row."""
    seed = int(np.random.SeedSequence((derive_stage_seed(spec.seed, 0), number)).generate_state(1)[0])
    accuracies, seconds, state = [], [], "complete"
    for epoch, *_ in run_training(
        config, spec.data, spec.objective, max_epochs=spec.stages[0].max_epochs, seed=seed, cache=cache
    ):
        accuracies.append(epoch.val_accuracy)
        seconds.append(epoch.seconds)
        if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)):
            state = "diverged"
            break
    return {
        "seed": spec.seed,
        "number": number,
        "state": state,
        "config": json.dumps(dict(config), sort_keys=True),
        "val_accuracy": accuracies,
        "seconds": seconds,
    }


def train_missing(
    spec: SearchSpec, num_trials: int, known: set[tuple[int, int]], cache: Path
) -> Iterator[dict[str, Any]]:
    """Train the first configurations that the search would draw, but those that are known."""
    prepare(spec.data, cache)
    search = Search(spec.stages, spec.space, seed=spec.seed)
    for number in range(num_trials):
        job = search.next()
        assert job is not None
        assert job.key[1] == number
        if (spec.seed, number) not in known:
            yield train(spec, job.config, number, cache)


def write(rows: dict[tuple[int, int], dict[str, Any]], table: Path) -> None:
    """Write a table, sorted."""
    pq.write_table(pa.Table.from_pylist([rows[key] for key in sorted(rows)]), table, compression="zstd")


def main() -> None:
    """Train what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SURROGATES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=600, help="how many there are to be of this seed")
    given = parser.parse_args()
    use_threads(1)
    spec = load_spec(find_spec(given.name), [f"seed={given.seed}"])
    table = find_table(given.name)
    rows = {(row["seed"], row["number"]): row for row in (pq.read_table(table).to_pylist() if table.is_file() else [])}
    written = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        for row in train_missing(spec, given.trials, set(rows), Path(cache)):
            rows[row["seed"], row["number"]] = row
            if time.monotonic() - written >= WRITE_EVERY_S:
                write(rows, table)
                written = time.monotonic()
    write(rows, table)
    print(f"{len(rows)} curves in {table}")


if __name__ == "__main__":
    main()
