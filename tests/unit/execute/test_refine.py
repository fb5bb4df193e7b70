"""A search that follows another one, written from real ledgers."""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_run import open_run, play

from tuner.errors import SearchNotFoundError
from tuner.execute.experiment import read_sources
from tuner.execute.placement import Placement
from tuner.execute.refine import refine_search
from tuner.execute.search_run import SearchRun
from tuner.execute.views import view_records
from tuner.spec import dump_spec, load_text
from tuner.spec.search import Narrow, SearchSpec
from tuner.spec.space import Config, Space
from tuner.strategy.draws import draw
from tuner.strategy.narrow import narrow
from tuner.track.ledger import Ledger, StageLedger, State

ONE_STAGE = """\
name: earlier
data: {name: digits, validation: 0.3}
objective: val_loss
space:
  architecture: {choice: {lenet: {}, simple_cnn: {depth: {int: [1, 4]}}}}
  learning_rate: {loguniform: [1e-3, 1.0]}
stages:
  only: {trials: 30, max_epochs: 2, sampler: random}
resources: {cpus: 2}
limits: {epochs: 500}
seed: 7
try: [{learning_rate: 0.9}]
warm_start: [even-earlier]
"""


def write_search(
    folder: Path,
    text: str,
    score: Callable[[Config], float],
    num_trials: int,
    *,
    seed: int = 0,
    states: Sequence[State] = ("complete",),
) -> SearchSpec:
    """Write the ledger of a search whose first stage tried configurations at random; states take turns."""
    spec = load_text(text)
    assert isinstance(spec.space, Space)
    folder.mkdir()
    written = dump_spec(spec)
    stage = Ledger.open(folder, create=True).begin_stage(
        spec.stages[0].name, maximize=spec.objective.mode == "max", spec=written, asked=written
    )
    rng = np.random.default_rng(seed)
    for i in range(num_trials):
        config = draw(spec.space, rng)
        write_trial(stage, spec.space, config, score(config), states[i % len(states)])
    return spec


def write_trial(stage: StageLedger, space: Space, config: Config, value: float, state: State) -> None:
    number = stage.start(space, config, seed=0)
    stage.record_epoch(number, 1, {"val_loss": value, "val_accuracy": value}, value)
    if state == "paused":
        stage.pause(number, 1, "because")
    elif state != "running":
        stage.end(number, state, "because", value)


def score_rate(config: Config) -> float:
    """A loss that depends on the learning rate alone."""
    return abs(math.log10(float(config["learning_rate"])) + 2)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of two stages."""
    folder = tmp_path_factory.mktemp("results") / "played"
    play(open_run(folder, changes=("stages.coarse.trials=20", "stages.fine.trials=10", "limits.time=1h")))
    return folder


def test_the_last_stage_is_run_again_in_its_own_space_narrowed(played: Path) -> None:
    refined = refine_search(played, "next")
    spec, fine = refined.spec, Ledger.open(played).stages()[-1]
    asked = load_text(fine.attributes["asked"])
    records = view_records(fine.trials(), asked.objective, maximize=True)
    assert refined.narrowing == narrow(fine.space, records, Narrow())
    assert spec.space == refined.narrowing.space
    assert spec.stages == (asked.stages[-1].model_copy(update={"narrow": None}),)
    assert (spec.name, spec.warm_start) == ("next", ("played",))
    assert all(getattr(spec, key) == getattr(asked, key) for key in ("data", "objective", "resources", "limits"))


def test_one_stage_is_run_again_with_all_its_trials_and_nothing_is_tried_first(tmp_path: Path) -> None:
    asked = write_search(tmp_path / "earlier", ONE_STAGE, score_rate, 30)
    refined = refine_search(tmp_path / "earlier", "next")
    changed = {"name": "next", "space": refined.narrowing.space, "first": (), "warm_start": ("earlier",)}
    assert refined.spec == asked.model_copy(update=changed)
    rate: Any = refined.narrowing.space["learning_rate"].distribution
    assert 1e-3 < rate.low < 1e-2 < rate.high < 1
    assert f"  learning_rate: {{loguniform: [{rate.low}, {rate.high}]}}\n" in refined.text


def test_how_to_narrow_is_as_given_else_as_the_last_stage_has_it(played: Path, tmp_path: Path) -> None:
    coarse = Ledger.open(played).stages()[0]
    records = view_records(coarse.trials(), load_text(coarse.attributes["asked"]).objective, maximize=True)
    for keep, margin, how in ((None, None, Narrow()), (0.5, 0.0, Narrow(keep=0.5, margin=0.0))):
        refined = refine_search(played, "next", stage_name="coarse", keep=keep, margin=margin)
        assert refined.narrowing == narrow(coarse.space, records, how)
    folder = tmp_path / "own"
    play(open_run(folder, changes=("stages.coarse.trials=20", "stages.fine.narrow={keep: 0.6}")))
    assert "(keep 0.6, margin 0.1)" in refine_search(folder, "next", stage_name="coarse").text.replace("\n#  ", "")


def test_what_it_writes_can_be_run_in_the_same_results(played: Path) -> None:
    refined = refine_search(played, "next")
    warnings: list[str] = []
    spec = load_text(refined.text, warn=warnings.append)
    assert (spec, warnings) == (refined.spec, [])
    said: list[str] = []
    folder = played.parent / "next"
    folder.mkdir()
    ledger = Ledger.open(folder, create=True)
    sources = read_sources(spec, played.parent)
    run = SearchRun(
        spec,
        ledger,
        folder,
        folder,
        Placement(1, 0, 1),
        None,
        {"search_id": "0", "versions": {}},
        said.append,
        lambda: None,
        sources=sources,
    )
    play(run)
    (stage,) = ledger.stages()
    assert stage.attributes["ended"] == "complete"
    assert len(stage.trials()) == 10
    assert any("of them are learnt from" in line for line in said)


def test_trials_that_still_run_tell_nothing(tmp_path: Path) -> None:
    spec = write_search(tmp_path / "earlier", ONE_STAGE, score_rate, 30)
    ended = refine_search(tmp_path / "earlier", "next")
    (stage,) = Ledger.open(tmp_path / "earlier").stages()
    assert isinstance(spec.space, Space)
    for _ in range(9):
        write_trial(stage, spec.space, {"architecture": "lenet", "learning_rate": 0.9}, 0.0, "running")
    assert refine_search(tmp_path / "earlier", "next") == ended


def test_trials_that_wait_at_a_rung_tell_as_much_as_those_that_were_stopped_there(tmp_path: Path) -> None:
    for state in ("paused", "stopped"):
        write_search(tmp_path / state, ONE_STAGE, score_rate, 30, states=("complete", state))
    paused, stopped = (refine_search(tmp_path / state, "next").narrowing for state in ("paused", "stopped"))
    assert paused == stopped


def test_a_grid_has_no_more_trials_than_points(tmp_path: Path) -> None:
    text = """\
name: earlier
data: digits
space: {architecture: lenet, batch_size: {choice: [16, 32, 64]}, l2: {choice: [0.0, 0.001]}}
stages: {only: {trials: 6, max_epochs: 2, halving: none, sampler: grid}}
"""
    write_search(tmp_path / "earlier", text, lambda config: float(config["batch_size"] == 64), 30)
    refined = refine_search(tmp_path / "earlier", "next")
    assert refined.narrowing.space.count_points() == refined.spec.stages[0].trials < 6
    warnings: list[str] = []
    load_text(refined.text, warn=warnings.append)
    assert warnings == []


def write_improving(folder: Path, kinds: Sequence[str], changes: str = "") -> None:
    """Write a search whose complete trials have curves of given shapes."""
    spec = write_search(folder, ONE_STAGE.replace("sampler: random", f"sampler: random{changes}"), score_rate, 12)
    (stage,) = Ledger.open(folder).stages()
    assert isinstance(spec.space, Space)
    for kind in kinds:
        number = stage.start(spec.space, {"architecture": "lenet", "learning_rate": 0.01}, seed=0)
        stage.record_epoch(number, 1, {"val_loss": 0.1, "val_accuracy": 0.9}, 0.1)
        stage.end(number, "complete", "because", 0.1, diagnosis={"kind": kind, "text": "so"})


@pytest.mark.parametrize(("changes", "longer"), [("", 6), (", halving: {reduction: 4}", 8), (", halving: none", 4)])
def test_a_stage_whose_trials_still_improved_is_proposed_longer_with_the_reason(
    tmp_path: Path, changes: str, longer: int
) -> None:
    write_improving(tmp_path / "earlier", ["still improving"] * 3 + ["healthy"] * 2, changes)
    refined = refine_search(tmp_path / "earlier", "next")
    assert [stage.max_epochs for stage in refined.spec.stages] == [longer]
    above = refined.text.split("\n  only:")[0].rpartition("\nstages:\n")[2].replace("\n  #  ", "")
    assert above == (
        f"  # stages.only: max_epochs 2 -> {longer}, one rung more: 3 of the 5 trials that came to the end were still "
        "improving"
    )
    assert load_text(refined.text) == refined.spec
    write_improving(tmp_path / "healthy", ["still improving"] * 2 + ["healthy"] * 3, changes)
    assert [stage.max_epochs for stage in refine_search(tmp_path / "healthy", "next").spec.stages] == [2]


@pytest.mark.parametrize(
    ("num_trials", "states", "said"),
    [
        (7, ("complete",), r"of stage 'only' 7 trials have ended or wait with a result, and 8 are needed"),
        (30, ("diverged", "failed"), r"of stage 'only' 0 trials have ended or wait with a result"),
        (14, ("complete", "running"), r"7 trials have ended or wait with a result, and 8 are needed"),
        (30, ("stopped",), r"search 'earlier' has no complete trial yet"),
    ],
)
def test_a_search_with_too_few_trials_is_refused(
    tmp_path: Path, num_trials: int, states: tuple[State, ...], said: str
) -> None:
    write_search(tmp_path / "earlier", ONE_STAGE, score_rate, num_trials, states=states)
    with pytest.raises(SearchNotFoundError, match=said):
        refine_search(tmp_path / "earlier", "next")


def test_a_search_or_stage_that_is_not_there_is_refused_with_those_that_are(played: Path, tmp_path: Path) -> None:
    with pytest.raises(SearchNotFoundError, match=r"no search is called 'plaid' in .*; there are: .*played"):
        refine_search(played.with_name("plaid"), "next")
    with pytest.raises(SearchNotFoundError, match=r"'played' has no stage 'corse'; it has: coarse, fine"):
        refine_search(played, "next", stage_name="corse")
    (tmp_path / "empty").mkdir()
    Ledger.open(tmp_path / "empty", create=True)
    with pytest.raises(SearchNotFoundError, match="'empty' has begun no stage yet"):
        refine_search(tmp_path / "empty", "next")


@st.composite
def spaces(draw_: st.DrawFn) -> dict[str, Any]:
    """A part of a space, as its section of a file has it: conditions, constants, priors and all kinds of ranges."""
    low, steps = draw_(st.floats(1e-5, 1e-2)), draw_(st.integers(1, 8))
    rate = {"loguniform": [low, low * draw_(st.floats(3, 1e4))]}
    if draw_(st.booleans()):
        rate["prior"] = rate["loguniform"][0]
    parts: dict[str, Any] = {
        "learning_rate": rate,
        "l2": {"uniform": [0.0, draw_(st.floats(1e-6, 1e-2))]},
        "dropout": {"uniform": [0.1, round(0.1 + 0.1 * steps, 1)], "step": 0.1},
        "batch_size": {"int": [16, 16 + 16 * steps], "step": 16},
        "learning_rate_decay": {"choice": ["constant", "step", "cosine"]},
        "optimizer": {"choice": {"adamw": {"weight_decay": {"loguniform": [1e-4, 1.0]}}, "sgd": {"momentum": 0.9}}},
    }
    kept = draw_(st.sets(st.sampled_from(sorted(parts))))
    lenet = {"width": {"uniform": [0.5, 0.5 + 0.25 * steps], "step": 0.25}}
    cnn = {"depth": {"int": [1, draw_(st.integers(2, 8))]}, "width": {"logint": [8, draw_(st.integers(9, 200))]}}
    families = draw_(st.sampled_from(({"lenet": lenet, "simple_cnn": cnn}, {"lenet": {}, "simple_cnn": cnn})))
    return {"architecture": {"choice": families}, **{key: parts[key] for key in parts if key in kept}}


@settings(max_examples=25)
@given(spaces(), st.integers(8, 24), st.integers(0, 2**32), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_whatever_the_space_it_is_written_as_narrowed_with_every_reason_as_a_comment(
    section: dict[str, Any], num_trials: int, seed: int, weights: list[float]
) -> None:
    def score(config: Config) -> float:
        seen = (config["architecture"] == "lenet", config.get("learning_rate_decay") == "step", "dropout" in config)
        values = [float(is_so) for is_so in seen[:2]] + [float(config.get("learning_rate", 0.0))]
        return 1 + sum(weight * value for weight, value in zip(weights, values, strict=True))

    tree = {"name": "earlier", "data": "digits", "space": section, "stages": {"only": {"trials": 40, "max_epochs": 1}}}
    with tempfile.TemporaryDirectory() as results:
        folder = Path(results) / "earlier"
        spec = write_search(folder, json.dumps(tree), score, num_trials, seed=seed)
        refined = refine_search(folder, "next")
        (stage,) = Ledger.open(folder).stages()
        views = view_records(stage.trials(), spec.objective, maximize=True)
    assert isinstance(spec.space, Space)
    narrowing = narrow(spec.space, views, Narrow())
    assert load_text(refined.text).space == narrowing.space
    plain = " ".join(line.strip().removeprefix("#").strip() for line in refined.text.splitlines())
    assert [reason.name for reason in narrowing.reasons] == [parameter.name for parameter in spec.space.parameters]
    for reason in narrowing.reasons:
        assert (
            f"{reason.name}: {reason.action}, from {reason.num_trials} trials: {reason.change}; {reason.text}" in plain
        )
