"""The quick check's process: ``python -m tuner.execute.check_main CACHE``; a spec comes in, findings go out."""

import dataclasses
import json
import sys
from pathlib import Path

from tuner.spec import load_text
from tuner.spec.space import Space
from tuner.train.checks import check_space
from tuner.train.data import load_splits
from tuner.train.run import use_threads


def _main() -> None:
    spec = load_text(sys.stdin.read(), "the search that is checked")
    assert isinstance(spec.space, Space), "it comes with its own space"
    use_threads(1)
    splits = load_splits(spec.data, Path(sys.argv[1]))
    for finding in check_space(spec.space, splits, seed=spec.seed, is_quick=True):
        sys.stdout.write(json.dumps(dataclasses.asdict(finding)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
