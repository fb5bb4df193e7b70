"""What a person sees of a search that runs."""

import pytest

from tuner.cli.watch import LiveTable


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = "limits.failures: 3 trials failed: RuntimeError: [enforce fail at alloc.cpp:117] :x: [/b]"
    LiveTable().say(line)
    assert capsys.readouterr().out.split() == line.split()
