"""How ``tuner plan`` shows what a search will take."""

import pytest

from tuner.cli.plan_command import print_plan
from tuner.execute.forecast import MeasuredNetwork, Plan, list_stages
from tuner.execute.placement import Placement
from tuner.execute.rehearsal import Rehearsal, RehearsedStage
from tuner.train.cost import Cost


def make_plan(gpus: float = 0.0, misfits: tuple[str, ...] = ()) -> Plan:
    """Four rehearsals, of which one does not come to the second stage."""
    coarse, fine = RehearsedStage("coarse", {1: 8, 3: 3}, 8, 14, 20.0), RehearsedStage("fine", {4: 4}, 4, 16, 30.0)
    whole = Rehearsal(50.0, 1.0, 12, 30, 0.5, 4e6, 1.5e9, (coarse, fine), "complete")
    cut = Rehearsal(20.0, 1.0, 8, 14, 0.2, 3e6, 1.5e9, (coarse,), "the time limit of 20 s was reached")
    networks = (
        MeasuredNetwork("lenet", {}, Cost(0.05, 0.8, 0.1, 7e8, 2e5, 1e5)),
        MeasuredNetwork("vgg", {}, None, "out of memory on cpu"),
        MeasuredNetwork("lenet", {}, Cost(0.05, 0.7, 0.1, 7e8, 2e5, 1e5), is_drawn=True),
    )
    return Plan(Placement(1, gpus, 2), 10.0, networks, 0.08, 0.1, (whole, whole, whole, cut), misfits)


def show(plan: Plan, cost: tuple[float, float, float] | None, capsys: pytest.CaptureFixture[str]) -> str:
    print_plan("digits", plan, list_stages(plan.rehearsals, ["coarse", "fine"]), cost)
    return capsys.readouterr().out


def test_it_shows_networks_rungs_and_totals_and_what_they_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    shown = show(make_plan(misfits=("vgg: a trial with it fails: out of memory on cpu",)), None, capsys)
    assert shown.startswith("search digits: 2 trials at once, each with 1 CPU\n")
    lines = [line.split() for line in shown.splitlines()]
    assert ["lenet", "0.9", "s", "0.05", "s", "700.0", "MB", "200.0", "kB"] in lines
    assert ["vgg", "fails"] in lines
    assert ["coarse", "3", "3", "3", "3"] in lines
    assert "stage fine was begun in 3 of 4 simulated searches" in shown
    assert ["time", "of", "the", "command", "39", "s", "1", "min", "0", "s", "1", "min", "0", "s"] in lines
    assert "ended in 1 of 4: the time limit of 20 s was reached" in shown
    assert "GPU hours" not in shown
    assert "This rests on 4 simulated searches with made-up learning curves" in shown
    assert "Epochs were measured for 3 configurations" in shown
    assert shown.endswith("will not fit  vgg: a trial with it fails: out of memory on cpu\n")


def test_gpus_are_counted_and_paid_for(capsys: pytest.CaptureFixture[str]) -> None:
    shown = show(make_plan(gpus=1.0), (1.0, 2.5, 3.0), capsys)
    assert "each with 1 CPU and 1 GPU\n" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["GPU", "hours", "of", "training", "0.29", "0.50", "0.50"] in lines
    assert ["cost", "of", "these", "GPUs", "1.00", "2.50", "3.00"] in lines
