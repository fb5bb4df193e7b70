"""Single searches of the comparison, and the file that holds their results."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from search_quality.measure import OURS, SHARES, measure
from search_quality.peers import PEERS
from search_quality.problems import MAX_EPOCHS, PROBLEMS


class Key(NamedTuple):
    """What tells one search from another.

    Attributes
    ----------
    problem, method : str
        By their names.
    budget : int
        In full trainings.
    workers : int
        Trials at once.
    seed : int
        Of the search; the problems have none.
    """

    problem: str
    method: str
    budget: int
    workers: int
    seed: int


def run(key: Key) -> dict[str, Any]:
    """Run one search and return its row."""
    problem, epochs = PROBLEMS[key.problem](), key.budget * MAX_EPOCHS
    build = OURS.get(key.method) or PEERS[key.method]
    found = measure(problem, build(problem, key.workers, epochs, key.seed), workers=key.workers, budget=epochs)
    regrets = {f"regret_{share * 100:.0f}": regret for share, regret in zip(SHARES, found.regrets, strict=True)}
    measured = {"epochs": found.epochs, "trials": found.trials, "seconds": found.seconds}
    return key._asdict() | regrets | measured


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """Read the rows of a file by their keys; there are none where there is no file."""
    rows = pq.read_table(path).to_pylist() if path.is_file() else []
    return {Key(*(row[name] for name in Key._fields)): row for row in rows}


def merge(rows: list[dict[str, Any]], path: Path) -> None:
    """Put rows into a file, in the place of older ones of the same search."""
    merged = read(path) | {Key(*(row[name] for name in Key._fields)): row for row in rows}
    pq.write_table(pa.Table.from_pylist([merged[key] for key in sorted(merged)]), path)
