"""How ``tuner show`` shows what is on record."""

import math
from pathlib import Path

import pytest
from made_up import make_up

from tuner.cli.show_command import print_search

REASON = "failed: RuntimeError: [/__w/third_party/gloo/pair.cc:561] closed, [enforce fail at alloc.cpp:117] :x: [/b]"


def test_the_text_of_an_error_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = make_up(tmp_path / "made-up", 2, "coarse")
    (stage,) = ledger.stages()
    number = stage.start(stage.space, stage.trials()[0].config, seed=0)
    stage.end(number, "failed", REASON, math.nan)
    print_search(tmp_path / "made-up", top=3, everything=True)
    assert REASON in capsys.readouterr().out
