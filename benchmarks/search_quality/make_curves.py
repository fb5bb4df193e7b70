"""Train random configurations to the end and keep their learning curves.

What was trained stays: a run that is cut off goes on with the same command, and a run with another seed adds to the
table.

    cd benchmarks
    python -m search_quality.make_curves --seed 0 --results FOLDER --output data/curves.parquet
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tuner.track.ledger import Ledger

SPEC = Path(__file__).with_name("curves.yaml")


def read_rows(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Read what a search's ledger has: a row for each trial that reached its last epoch or diverged."""
    (stage,) = Ledger.open(folder).stages()
    return [
        {
            "seed": seed,
            "number": trial.number,
            "state": trial.state,
            "config": json.dumps(trial.config, sort_keys=True),
            "val_accuracy": [float(epoch["val_accuracy"]) for epoch in trial.epochs],
            "seconds": [float(epoch["seconds"]) for epoch in trial.epochs],
        }
        for trial in stage.trials()
        if trial.state in {"complete", "diverged"}
    ]


def main() -> None:
    """Train, and keep what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, required=True, help="where the search keeps its record")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--trained", action="store_true", help="train no more, keep what there is")
    given = parser.parse_args()
    if not given.trained:
        tuner = Path(sys.executable).with_name("tuner")
        subprocess.run([tuner, "run", SPEC, "--results", given.results, "--set", f"seed={given.seed}"], check=False)
    old = pq.read_table(given.output).to_pylist() if given.output.is_file() else []
    rows = {(row["seed"], row["number"]): row for row in [*old, *read_rows(given.results / "curves", given.seed)]}
    pq.write_table(pa.Table.from_pylist([rows[key] for key in sorted(rows)]), given.output, compression="zstd")
    print(f"{len(rows)} curves in {given.output}")


if __name__ == "__main__":
    main()
