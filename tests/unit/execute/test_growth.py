"""A cluster to which machines come, without Ray."""

from collections.abc import Sequence
from typing import Any

import pytest

from tuner.errors import InputError, ResourceError
from tuner.execute import growth
from tuner.execute.growth import VARIABLE, place_on_growing
from tuner.execute.placement import Placement
from tuner.spec.search import Resources

HEAD = {"CPU": 0.0}
GPU_BOX = {"CPU": 8.0, "GPU": 1.0}


class Autoscaler:
    """Brings one machine at the third look after it was asked."""

    def __init__(self, machine: dict[str, float]) -> None:
        self.asked: list[Any] = []
        self.looks = 0
        self._machine = machine

    def request(self, bundles: Sequence[dict[str, float]]) -> None:
        self.asked.append(list(bundles))

    def list_nodes(self) -> list[dict[str, float]]:
        self.looks += 1
        return [HEAD, self._machine] if self.looks >= 3 and self.asked else [HEAD]


@pytest.fixture
def autoscaler(monkeypatch: pytest.MonkeyPatch) -> Autoscaler:
    own = Autoscaler(GPU_BOX)
    monkeypatch.setattr(growth, "request_resources", own.request)
    monkeypatch.setattr(growth, "list_nodes", own.list_nodes)
    monkeypatch.setattr(growth, "LOOK_EVERY_S", 0.001)
    monkeypatch.setenv(VARIABLE, "1m")
    return own


@pytest.mark.parametrize(
    ("resources", "bundles", "placement"),
    [
        (Resources(), [{"CPU": 1}], Placement(1, 1.0, 1)),
        (Resources(gpus=0.25, trials_at_once=16), [{"CPU": 1, "GPU": 0.25}], Placement(1, 0.25, 16)),
        (Resources(cpus=4, gpus=0, workers=2), [{"CPU": 4}] * 2, Placement(4, 0, 1, workers=2)),
    ],
)
def test_the_machines_of_one_trial_are_asked_for_once_and_waited_for(
    autoscaler: Autoscaler, resources: Resources, bundles: list[dict[str, float]], placement: Placement
) -> None:
    said: list[str] = []
    assert place_on_growing(resources, [HEAD], said.append) == placement
    assert autoscaler.asked == [bundles, []], "and no longer once it is there"
    assert said == ["no machine has room for a trial; one is asked for, and waited for up to 60 s"]


def test_where_a_trial_fits_at_once_nothing_is_asked_for(autoscaler: Autoscaler) -> None:
    placement = place_on_growing(Resources(trials_at_once=8), [HEAD, GPU_BOX], lambda _: None)
    assert placement == Placement(1, 1.0, 8), "further machines come for the trials that wait"
    assert autoscaler.asked == []


def test_a_machine_that_does_not_come_in_time_is_not_waited_for(
    autoscaler: Autoscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.05s")
    monkeypatch.setattr(growth, "list_nodes", lambda: [HEAD])
    with pytest.raises(ResourceError, match="the largest node has 0 CPUs"):
        place_on_growing(Resources(), [HEAD], lambda _: None)


def test_what_no_machine_could_place_is_refused_at_once(autoscaler: Autoscaler) -> None:
    with pytest.raises(ResourceError, match="have one GPU each or none"):
        place_on_growing(Resources(gpus=1.5, workers=2), [HEAD], lambda _: None)
    assert autoscaler.looks == 0


def test_without_the_variable_a_cluster_is_what_it_is(autoscaler: Autoscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ResourceError, match="only 1 fit on the cluster"):
        place_on_growing(Resources(trials_at_once=2), [HEAD, GPU_BOX], lambda _: None)
    assert autoscaler.asked == []


def test_a_variable_that_is_no_duration_is_refused(autoscaler: Autoscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(InputError, match="TUNER_MACHINES_WITHIN: must be a duration such as 20m or 1h, found 'soon'"):
        place_on_growing(Resources(), [HEAD], lambda _: None)
