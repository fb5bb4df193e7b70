"""The quick check before a search: what its process said, and what becomes of the search."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tuner.errors import RunError
from tuner.execute import check_process
from tuner.execute.check_process import settle


def play(findings: Sequence[dict[str, str]], ending: str = "") -> "subprocess.Popen[str]":
    """A process that says what it found, and ends somehow."""
    lines = "".join(json.dumps(finding) + "\n" for finding in findings)
    script = f"import sys, time\nsys.stdout.write({lines!r}); sys.stdout.flush()\n{ending}"
    return subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True)


def find(status: str) -> dict[str, str]:
    """A finding."""
    return {"subject": "lenet", "check": "L2 once", "status": status, "text": "2 times", "advice": "count it once"}


def test_a_search_whose_check_fails_is_refused_with_the_reason() -> None:
    with pytest.raises(RunError, match=r"lenet: L2 once: 2 times; count it once\n.*--no-check") as refused:
        settle(play([find("pass"), find("fail")]), print)
    assert refused.value.exit_code == 1


def test_warnings_stop_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    settle(play([find("pass"), find("warn")]), print)
    assert capsys.readouterr().out.splitlines() == [
        "check: lenet: L2 once: 2 times; count it once",
        "check: 2 lines, 1 pass",
    ]


def test_a_check_that_breaks_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    settle(play([], "raise MemoryError('none left')"), print)
    assert "check: cannot be done (MemoryError: none left)" in capsys.readouterr().out


def test_a_check_that_takes_too_long_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_process, "PATIENCE_S", 1.0)
    process = play([find("pass")], "time.sleep(60)")
    settle(process, print)
    assert process.poll() is not None
    assert "the rest takes longer than 1 s" in capsys.readouterr().out
