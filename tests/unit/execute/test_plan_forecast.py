"""What rehearsals say together, and what does not fit."""

import pytest

from tuner.execute.forecast import MeasuredNetwork, Plan, Room, find_band, find_misfits, list_stages
from tuner.execute.placement import Placement
from tuner.execute.rehearsal import Rehearsal, RehearsedStage
from tuner.train.cost import Cost

ALONE = Placement(cpus=1, gpus=0, trials_at_once=2)
AMPLE = Room(per_node=((2, 64e9),), gpu_bytes=0, disk_bytes=1e12)


def rehearsal(seconds: float = 10.0, *stages: RehearsedStage, **more: float) -> Rehearsal:
    numbers = {
        "trials": 4,
        "epochs": 12,
        "gpu_hours": 0.0,
        "disk_bytes": 1e6,
        "memory_bytes": 1e9,
        "slowness": 1.0,
        **more,
    }
    return Rehearsal(seconds=seconds, stages=stages, ended="complete", **numbers)  # type: ignore[arg-type]


def network(memory_bytes: float = 1e9, fault: str = "") -> MeasuredNetwork:
    cost = None if fault else Cost(0.1, 1.0, 0.1, memory_bytes, 2e6, 1e6)
    return MeasuredNetwork("lenet", {"architecture": "lenet"}, cost, fault)


def test_a_band_is_the_tenth_the_fiftieth_and_the_ninetieth_percentile() -> None:
    assert find_band([float(number) for number in range(101)]) == (10.0, 50.0, 90.0)


def test_the_wall_time_has_the_start_up_on_top_and_no_other_number_does() -> None:
    plan = Plan(ALONE, 7.0, (network(),), 0.1, 0.1, tuple(rehearsal(float(second)) for second in range(101)), ())
    assert plan.bands["seconds"] == (10.0, 50.0, 90.0)
    assert plan.bands["wall_s"] == (17.0, 57.0, 97.0)
    assert plan.bands["epochs"] == (12.0, 12.0, 12.0)
    slow = Plan(ALONE, 7.0, (network(),), 0.1, 0.1, (rehearsal(20.0, slowness=2.0),), ())
    assert slow.bands["wall_s"] == (34.0, 34.0, 34.0)
    assert plan.ended == {"complete": 101}


def test_the_table_of_rungs_counts_a_stage_that_was_not_begun_with_zeros() -> None:
    coarse = RehearsedStage("coarse", {1: 8, 3: 4, 9: 2}, 8, 28, 6.0)
    fine = RehearsedStage("fine", {9: 4}, 4, 36, 5.0)
    both, cut = rehearsal(11.0, coarse, fine), rehearsal(6.0, coarse)
    first, second = list_stages([both, cut, cut], ["coarse", "fine"])
    assert (first.name, first.num_begun, first.rungs) == ("coarse", 3, {1: (8, 8, 8), 3: (4, 4, 4), 9: (2, 2, 2)})
    assert (second.num_begun, second.trials[1], second.rungs[9][1]) == (1, 0.0, 0.0)
    assert second.trials[2] == pytest.approx(3.2)
    (never,) = list_stages([cut], ["fine"])
    assert (never.num_begun, never.rungs) == (0, {})


def test_what_fits_is_not_told() -> None:
    assert find_misfits([network()], [rehearsal()], ALONE, AMPLE) == []


def test_a_network_that_cannot_be_trained_is_told_with_its_fault() -> None:
    told = find_misfits([network(), network(fault="out of memory on cuda")], [rehearsal()], ALONE, AMPLE)
    assert told == ["lenet: a trial with it fails: out of memory on cuda"]


def test_memory_is_that_of_all_workers_of_a_node_at_once() -> None:
    room = Room(per_node=((2, 2.5e9), (1, 1.0e9)), gpu_bytes=0, disk_bytes=1e12)
    assert find_misfits([network(1.2e9)], [rehearsal()], ALONE, Room(((2, 2.5e9),), 0, 1e12)) == []
    (told,) = find_misfits([network(1.2e9)], [rehearsal()], ALONE, room)
    assert told.startswith("memory: 1 workers at once on a node take up to 1.20 GB, and it has 1.00 GB free; set")
    (told,) = find_misfits([network(1.3e9), network(1e9)], [rehearsal()], ALONE, Room(((2, 2.5e9),), 0, 1e12))
    assert "2 workers at once on a node take up to 2.60 GB, and it has 2.50 GB free" in told


def test_trials_that_share_a_gpu_must_fit_on_it_together() -> None:
    shared, whole = (Placement(cpus=1, gpus=share, trials_at_once=4) for share in (0.25, 1.0))
    room = Room(per_node=((4, 0.0),), gpu_bytes=8e9, disk_bytes=1e12)  # what a host has is another matter then
    assert find_misfits([network(1.9e9)], [rehearsal()], shared, room) == []
    assert find_misfits([network(7.9e9)], [rehearsal()], whole, room) == []
    (told,) = find_misfits([network(2.1e9)], [rehearsal()], shared, room)
    assert told == (
        "GPU memory: 4 trials share a GPU and take up to 8.40 GB, and it has 8.00 GB; set resources.gpus higher"
    )


def test_checkpoints_must_fit_on_the_disk() -> None:
    full = Room(per_node=((2, 64e9),), gpu_bytes=0, disk_bytes=3e9)
    rehearsals = [rehearsal(disk_bytes=number * 1e8) for number in range(41)]
    (told,) = find_misfits([network()], rehearsals, ALONE, full)
    assert told.startswith("disk: checkpoints take up to 3.60 GB at once, and 3.00 GB are free")
    assert find_misfits([network()], rehearsals[:30], ALONE, full) == []
