"""``tuner stop``."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up import make_up

from tuner.cli import cli


@pytest.mark.parametrize("given", ["option", "variable"])
def test_the_command_that_is_proposed_finds_the_search(given: str, tmp_path: Path) -> None:
    results = tmp_path / "other results"
    make_up(results / "made-up", 1, "coarse")
    arguments = ["--results", str(results)] if given == "option" else []
    done = CliRunner().invoke(cli, ["stop", "made-up", *arguments], env={"TUNER_RESULTS": str(results)})
    where = f" --results '{results}'" if given == "option" else ""
    assert done.output == f"nobody runs search 'made-up'; go on with it with: tuner resume made-up{where}\n"
