"""Whether searches that were really trained are held against each other as they should be."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from search_quality import real


@pytest.mark.parametrize(
    ("accuracies", "shares"),
    [([0.5, 0.6, 0.8, 0.9], (3 / 5, 30 / 100)), ([0.5, 0.7, 0.7, 0.79], (math.inf, math.inf))],
)
def test_the_shares_are_those_at_which_the_other_best_was_reached(
    accuracies: list[float], shares: tuple[float, float]
) -> None:
    own = [(10.0 * n, accuracy) for n, accuracy in enumerate(accuracies, start=1)]
    other = [(20.0, 0.1), (40.0, 0.8), (60.0, 0.2), (80.0, 0.3), (100.0, 0.3)]
    assert real.compare(own, other) == shares


@pytest.mark.parametrize("num_epochs", [3, 4])
def test_a_search_that_was_cut_off_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_epochs: int
) -> None:
    def end(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        Path(command[-1]).write_text(json.dumps([[n, 0.5] for n in range(num_epochs)]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(real.subprocess, "run", end)
    if num_epochs == 4:
        assert len(real.measure(real.OURS, "digits", [], 4, 0, tmp_path)) == 4
    else:
        with pytest.raises(RuntimeError, match="ended after 3 of 4 epochs"):
            real.measure(real.OURS, "digits", [], 4, 0, tmp_path)
