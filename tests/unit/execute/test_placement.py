"""What fits on a cluster."""

import pytest

from tuner.errors import ResourceError
from tuner.execute.placement import Placement, place, refuse_useless_limits, suggest_sharing
from tuner.spec.search import Limits, Resources

LAPTOP = [{"CPU": 4.0}]
BOX = [{"CPU": 16.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("resources", "nodes", "placement"),
    [
        (Resources(), LAPTOP, Placement(1, 0.0, 4)),
        (Resources(cpus=3), LAPTOP, Placement(3, 0.0, 1)),
        (Resources(), BOX, Placement(1, 1.0, 2)),
        (Resources(gpus=0.25), BOX, Placement(1, 0.25, 8)),
        (Resources(gpus=0.4), BOX, Placement(1, 0.4, 4)),
        (Resources(gpus=0.2), BOX, Placement(1, 0.2, 10)),
        (Resources(gpus=0), BOX, Placement(1, 0, 16)),
        (Resources(gpus=2), BOX, Placement(1, 1.0, 1, workers=2)),
        (Resources(workers=2), BOX, Placement(1, 1.0, 1, workers=2)),
        (Resources(workers=2), LAPTOP, Placement(1, 0.0, 2, workers=2)),
        (Resources(cpus=3, gpus=0), [{"CPU": 4.0}, {"CPU": 8.0}], Placement(3, 0, 3)),
        (Resources(trials_at_once=2), LAPTOP, Placement(1, 0.0, 2)),
        (Resources(), [*LAPTOP, *BOX], Placement(1, 1.0, 2)),
    ],
)
def test_as_many_trials_run_as_fit(resources: Resources, nodes: list[dict[str, float]], placement: Placement) -> None:
    assert place(resources, nodes) == placement


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(cpus=5), ["5 CPUs", "4 CPUs"]),
        (Resources(gpus=1), ["1 GPUs", "0 GPUs"]),
        (Resources(trials_at_once=9), ["9 trials", "only 4 fit", "lower it to 4"]),
    ],
)
def test_what_can_never_be_placed_is_refused_with_the_numbers(resources: Resources, words: list[str]) -> None:
    with pytest.raises(ResourceError) as refused:
        place(resources, LAPTOP)
    for word in words:
        assert word in str(refused.value)


def test_workers_of_a_trial_have_a_whole_gpu_each_or_none() -> None:
    with pytest.raises(ResourceError, match=r"found 1 GPUs for 2 workers; set resources.gpus to 2 or 0"):
        place(Resources(gpus=1, workers=2), BOX)


def test_gpu_hours_are_refused_where_trials_get_no_gpu() -> None:
    limits = Limits(gpu_hours=2)
    with pytest.raises(ResourceError, match=r"limits\.gpu_hours: 2 GPU hours .* no GPU"):
        refuse_useless_limits(limits, place(Resources(), LAPTOP))
    refuse_useless_limits(limits, place(Resources(), BOX))
    refuse_useless_limits(Limits(time_s=1), place(Resources(), LAPTOP))


@pytest.mark.parametrize(
    ("resources", "node", "share"),
    [
        (Resources(), {"CPU": 16, "GPU": 1}, "0.125"),
        (Resources(cpus=4), {"CPU": 16, "GPU": 1}, "0.25"),
        (Resources(), {"CPU": 16, "GPU": 8}, "0.5"),
        (Resources(), {"CPU": 8, "GPU": 8}, None),
        (Resources(), {"CPU": 16}, None),
        (Resources(gpus=1), {"CPU": 16, "GPU": 1}, None),
        (Resources(workers=2), {"CPU": 16, "GPU": 2}, None),
    ],
)
def test_trials_that_leave_a_gpu_idle_are_told_to_share_it(
    resources: Resources, node: dict[str, float], share: str | None
) -> None:
    advice = suggest_sharing(resources, [node])
    assert (advice is None) == (share is None)
    assert share is None or f"--set resources.gpus={share}, " in str(advice)
