"""What a person sees of a search that runs."""

import io
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import SPEC
from rich.console import Console

from tuner.cli.watch import LiveTable, draw_status
from tuner.execute.search_run import Status
from tuner.spec import load_text
from tuner.strategy.trial_view import TrialView


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "limits.failures: 3 trials failed: RuntimeError: [enforce fail at alloc.cpp:117] :x: [/b]"
    LiveTable().say(line)
    assert capsys.readouterr().out.split() == line.split()


def draw(width: int) -> str:
    """Draw a search on a terminal of so many columns, which knows no character but those of ASCII."""
    config = {"architecture": "simple_cnn", "architecture.simple_cnn.width": 16, "learning_rate": 0.0487}
    best = (TrialView(123, config, (0.8611,), "stopped"),)
    counts = {"running": 12, "complete": 34, "diverged": 5}
    status = Status("coarse", 1, 2, 100, counts, best, tuple(config), 12345, 60.0, 71.0)
    run: Any = SimpleNamespace(spec=load_text(SPEC))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=terminal, width=width, force_terminal=True, color_system=None).print(draw_status(status, run))
    terminal.seek(0)
    return terminal.read()


@pytest.mark.parametrize("width", [25, 40, 60, 80])
def test_nothing_is_left_out_of_the_table_on_a_narrow_terminal(width: int) -> None:
    def count(shown: str) -> Counter[str]:
        return Counter("".join(shown.split()).replace("-", ""))  # the bar is as long as there is room

    shown = draw(width)
    assert count(shown) == count(draw(200))
    assert width < 60 or {"123", "86.11%", "12345", "stopped", "learning_rate=0.0487"} <= set(shown.split())
