"""The report as a page: what it holds, and that it holds on to the ledger."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up import make_up

from tuner.errors import InputError, SearchNotFoundError
from tuner.report.comparison import compare_searches, write_comparison
from tuner.report.figures import find_segments, measure_idle, place_segments
from tuner.report.search_report import build_report
from tuner.track.ledger import Ledger


def read_figures(page: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures of a page and the texts that they share, with nothing that JSON does not know."""
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    tree = json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return tree["figures"], tree["texts"]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A search of two stages."""
    return make_up(tmp_path_factory.mktemp("results") / "made-up", 60, "coarse", "fine")


@pytest.fixture(scope="module")
def folder(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return next(tmp_path_factory.getbasetemp().glob("results*/made-up"))


def test_the_page_asks_for_nothing_else(folder: Path) -> None:
    page = build_report(folder)
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)  # plotly's own script
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "default-src 'none'" in page, "the browser would refuse what plotly asked for"
    assert page.count("plotly.js v") == 1, "the script is there once"


def test_curves_are_those_of_the_ledger(folder: Path, ledger: Ledger) -> None:
    figures, _ = read_figures(build_report(folder))
    drawn = next(figure for figure in figures if figure["layout"]["xaxis"]["title"]["text"] == "epoch")
    fine = ledger.stages()[-1]
    for trace in drawn["data"]:
        state = trace["name"].split(" ")[0]
        trials = [trial for trial in fine.trials() if trial.state == state]
        expected = [round(epoch["val_accuracy"], 6) for trial in trials for epoch in trial.epochs]
        assert [value for value in trace["y"] if value is not None] == expected
        assert trace["name"] == f"{state} ({len(trials)})"


def test_parallel_coordinates_have_logarithmic_axes_and_a_place_for_what_is_not_there(folder: Path) -> None:
    figures, _ = read_figures(build_report(folder))
    axes = {a["label"]: a for f in figures if f["data"][0]["type"] == "parcoords" for a in f["data"][0]["dimensions"]}
    assert -4 <= min(axes["learning_rate"]["values"]) <= max(axes["learning_rate"]["values"]) <= 0
    assert axes["learning_rate"]["ticktext"] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    width = axes["simple_cnn.width"]
    assert width["ticktext"][0] == "none"
    assert min(width["values"]) == pytest.approx(width["tickvals"][0])


def test_text_of_the_ledger_is_text_on_the_page(folder: Path) -> None:
    page = build_report(folder)
    assert "the best &lt;b&gt;lie&lt;/b&gt; there" in page
    assert "<b>lie</b>" not in page


def test_workers_and_idle_time_are_worked_out_from_the_times(ledger: Ledger) -> None:
    segments = find_segments(ledger.stages()[0].trials())
    lanes = place_segments(segments)
    assert set(lanes) == {0, 1}
    for lane in (0, 1):
        own = [segment for segment, place in zip(segments, lanes, strict=True) if place == lane]
        assert all(after.start >= before.end - 0.06 for before, after in itertools.pairwise(own))
    num_epochs = sum(len(trial.epochs) for trial in ledger.stages()[0].trials())
    span = max(segment.end for segment in segments)
    assert measure_idle(segments, 2) == pytest.approx(1 - 0.9 * num_epochs / (2 * span))


def test_a_search_that_runs_has_a_report_that_says_so(tmp_path: Path) -> None:
    ledger = make_up(tmp_path / "made-up", 5, "coarse")
    assert "This search is not over: stage fine has not begun" in build_report(tmp_path / "made-up")
    ledger.stages()[0].set(ended=None)
    assert "This search is not over: stage coarse has not ended" in build_report(tmp_path / "made-up")


def test_a_search_that_a_limit_ended_has_a_report_that_says_so(tmp_path: Path) -> None:
    first, last = make_up(tmp_path / "made-up", 5, "coarse", "fine").stages()
    last.set(ended="the limit of 10 trials was reached")
    assert "This search ended early: the limit of 10 trials was reached." in build_report(tmp_path / "made-up")
    make_up(tmp_path / "shorter", 5, "coarse").stages()[0].set(ended="the target was reached")
    page = build_report(tmp_path / "shorter")
    assert "This search ended early: the target was reached, before stage fine began." in page
    assert "not over" not in page
    first.set(ended=None)  # as extend does, to go on with it
    assert "This search is not over: stage coarse has not ended" in build_report(tmp_path / "made-up")


def test_a_stage_without_a_trial_has_a_report(tmp_path: Path) -> None:
    make_up(tmp_path / "made-up", 0, "coarse")
    assert "Stage coarse" in build_report(tmp_path / "made-up")


def test_no_search_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(SearchNotFoundError):
        build_report(tmp_path / "nowhere")


def test_two_searches_are_compared_at_equally_many_epochs(folder: Path, tmp_path: Path) -> None:
    make_up(tmp_path / "shorter", 20, "coarse")
    found = compare_searches(folder, tmp_path / "shorter")
    longer, shorter = found.figures.values()
    assert longer["epochs"] > shorter["epochs"]
    assert shorter["at_equal_epochs"] == shorter["best"]
    assert longer["at_equal_epochs"] <= longer["best"]
    assert found.progress["shorter"][0].at(0) is None
    assert found.differences == []
    assert "shorter" in write_comparison(found)
    with pytest.raises(InputError, match="itself"):
        compare_searches(folder, folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match="itself"):
        compare_searches(folder, tmp_path / "link")


def test_two_searches_of_one_folder_name_are_told_apart_by_their_paths(folder: Path, tmp_path: Path) -> None:
    make_up(tmp_path / folder.name, 20, "coarse")
    found = compare_searches(folder, tmp_path / folder.name)
    assert list(found.figures) == list(found.progress) == [str(folder), str(tmp_path / folder.name)]
    assert str(tmp_path) in write_comparison(found)


def test_each_search_that_is_compared_has_its_own_metric(folder: Path, tmp_path: Path) -> None:
    make_up(tmp_path / "loss", 20, "coarse", overrides=("objective=val_loss",))
    found = compare_searches(folder, tmp_path / "loss")
    accuracy, loss = found.figures.values()
    rows = {title: shown for title, *shown in found.rows()}
    assert rows["best val_accuracy | val_loss"] == [f"{accuracy['best']:.2%}", f"{loss['best']:.4f}"]
    at_equal_epochs = rows["best val_accuracy | val_loss after equally many epochs"]
    assert ["%" in value for value in at_equal_epochs] == [True, False]
    assert (accuracy["metric"], loss["metric"]) == ("val_accuracy", "val_loss")
    assert "they differ in objective, so their values do not compare" in found.warnings
