"""Tables on terminals of any width."""

import io
import sys

import pytest
from rich.table import Table

from tuner.cli.screen import print_table

WORDS = ["trial", "at epoch", "time", "config"]
ROWS = [
    ["0", "5", "1 min 11 s", "lenet learning_rate=0.0487"],
    ["1", "13", "2 h", "resnet(depth=20, width=32) l2=1e-05"],
]


class Terminal(io.TextIOWrapper):
    """A terminal that knows no character but those of ASCII."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", write_through=True)

    def isatty(self) -> bool:
        """Say that it is one."""
        return True

    def read_lines(self) -> list[str]:
        """Return what was written."""
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode("ascii").splitlines()


@pytest.mark.parametrize("width", [10, 20, 30, 40, 45, 50, 60, 80, 200])
def test_no_word_and_no_number_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(box=None, pad_edge=False, title="stage", title_justify="left")
    for word in WORDS:
        table.add_column(word, no_wrap=word != "config")
    for row in ROWS:
        table.add_row(*row)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in (("COLUMNS", width), ("LINES", 50), ("TERM", "dumb")):
        monkeypatch.setenv(name, str(value))
    print_table(table)
    lines = terminal.read_lines()
    words = " ".join(["stage", *WORDS, *ROWS[0], *ROWS[1]]).split()
    assert sorted(" ".join(lines).split()) == sorted(words)
    assert all("1 min 11 s" in line for line in lines if line.startswith("0"))
    assert len(lines) == 2 + len(ROWS) or width >= 50, "whole lines, or wrapped where there is room for each word"
    assert (max(map(len, lines)) <= width) == (width >= 50)
