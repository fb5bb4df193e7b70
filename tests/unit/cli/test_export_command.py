"""Where ``tuner export`` writes."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up import make_up

from tuner.cli import cli


@pytest.mark.parametrize("name", ["made-up", "made-up/"])  # a shell that completes paths adds the stroke
def test_a_table_is_called_as_its_search_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_up(tmp_path / "made-up", 3, "coarse")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["export", name, "--format", "csv", "--results", "."], catch_exceptions=False)
    assert done.exit_code == 0
    assert len((tmp_path / "made-up.csv").read_text().splitlines()) == 4
