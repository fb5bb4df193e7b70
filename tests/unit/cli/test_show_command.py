"""How ``tuner show`` shows what is on record."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up import make_up

from tuner.cli.show_command import print_search, show
from tuner.errors import SearchNotFoundError
from tuner.track.lease import claim_folder

REASON = "failed: RuntimeError: [/__w/third_party/gloo/pair.cc:561] closed, [enforce fail at alloc.cpp:117] :x: [/b]"


def test_the_text_of_an_error_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = make_up(tmp_path / "made-up", 2, "coarse")
    (stage,) = ledger.stages()
    number = stage.start(stage.space, stage.trials()[0].config, seed=0)
    stage.end(number, "failed", REASON, math.nan)
    print_search(tmp_path / "made-up", top=3, everything=True)
    assert REASON in capsys.readouterr().out


def test_what_is_not_a_number_is_null_in_json(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 1, "coarse").stages()
    number = stage.start(stage.space, stage.trials()[0].config, seed=0)
    stage.record_epoch(number, 1, {"epoch": 1, "val_accuracy": 0.5, "update_ratio": math.nan}, 0.5)
    done = CliRunner().invoke(show, ["made-up", "--json", "--results", str(tmp_path)], catch_exceptions=False)
    trials = json.loads(done.stdout, parse_constant=pytest.fail)["stages"][0]["trials"]
    assert (trials[1]["val_accuracy"], trials[1]["update_ratio"]) == (0.5, None)


def test_one_trial_is_shown_as_json_too(tmp_path: Path) -> None:
    _, stage = make_up(tmp_path / "made-up", 3, "coarse", "fine").stages()
    options = ["made-up", "--json", "--results", str(tmp_path)]
    done = CliRunner().invoke(show, [*options, "--trial", "1"], catch_exceptions=False)
    (shown,) = json.loads(done.stdout)["stages"]
    assert (shown["stage"], [trial["trial"] for trial in shown["trials"]]) == (stage.name, [1])
    with pytest.raises(SearchNotFoundError, match="it has 0 to 2"):
        CliRunner().invoke(show, [*options, "--trial", "3"], catch_exceptions=False)


def test_a_search_that_nobody_runs_says_how_to_go_on(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 2, "coarse").stages()
    stage.set(ended=None)
    options = ["made-up", "--results", str(tmp_path)]
    advice = f"nobody runs this search; go on with it with:\n  tuner resume made-up --results {tmp_path}"
    assert advice in CliRunner().invoke(show, options, catch_exceptions=False).stdout
    with claim_folder(tmp_path / "made-up"):
        assert "nobody" not in CliRunner().invoke(show, options, catch_exceptions=False).stdout
    stage.set(ended="complete")
    assert "nobody" not in CliRunner().invoke(show, options, catch_exceptions=False).stdout
