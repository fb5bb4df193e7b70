"""The searches of the comparison, put together by what they have in common."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from search_quality.estimates import Table, mean_ranks
from search_quality.measure import SHARES
from search_quality.peers import PEERS
from search_quality.problems import HELD_OUT
from search_quality.runs import Key, read


class Setting(NamedTuple):
    """What all searches of one set of tables have in common.

    Attributes
    ----------
    budget : int
        In full trainings.
    workers : int
        Trials at once.
    """

    budget: int
    workers: int


@dataclass(frozen=True)
class Results:
    """All searches of one setting.

    Attributes
    ----------
    regrets : sequence of mappings
        For each share of the budget, by problem, method and seed.
    seconds : mapping
        Those that a method takes to decide, by method: the mean over its searches.
    """

    regrets: Sequence[Table]
    seconds: dict[str, float]

    @property
    def last(self) -> Table:
        """The regrets after the whole budget."""
        return self.regrets[-1]

    @functools.cached_property
    def methods(self) -> list[str]:
        """The names of the methods, the one of the best mean rank first."""
        ranks = mean_ranks(self.last)
        return sorted(ranks, key=lambda name: ranks[name])

    @property
    def peers(self) -> list[str]:
        """The names of the methods that are not ours."""
        return [name for name in self.methods if name in PEERS]


def load(paths: Sequence[Path], method: str) -> dict[Setting, Results]:
    """Read the searches of the peers and of one method of ours; of two of the same key, the later file's counts.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    rows = {}
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"no file of searches is at {path}")
        rows.update(read(path))
    keys: dict[Setting, list[Key]] = defaultdict(list)
    for key in sorted(key for key in rows if key.method == method or key.method in PEERS):
        keys[Setting(key.budget, key.workers)].append(key)
    return {setting: _collect({key: rows[key] for key in keys[setting]}) for setting in sorted(keys)}


def _collect(rows: Mapping[Key, Mapping[str, Any]]) -> Results:
    regrets = [defaultdict(lambda: defaultdict(dict)) for _ in SHARES]
    seconds = defaultdict(list)
    for key, row in rows.items():
        seconds[key.method].append(row["seconds"])
        for share, table in zip(SHARES, regrets, strict=True):
            table[key.problem][key.method][key.seed] = row[f"regret_{share * 100:.0f}"]
    return Results(regrets, {name: float(np.mean(values)) for name, values in seconds.items()})


def choose(table: Table, *, is_held_out: bool) -> Table:
    """Return the problems on which nothing was chosen, or the others."""
    return {problem: methods for problem, methods in table.items() if (problem in HELD_OUT) == is_held_out}
