"""What several workers failed of, without Ray."""

import pytest
import torch
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from tuner.errors import LostWorkerError, RunError
from tuner.execute.distributed import blame
from tuner.execute.task import Epochs
from tuner.execute.trial import TrialActor, is_devices_fault, is_machines_fault

CLOSED = RuntimeError("[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:63883")
DIED = WorkerHealthCheckFailedError("A worker health check failed.", RuntimeError("The actor died"))


@pytest.mark.parametrize(
    ("own", "is_machines", "is_devices"),
    [
        (OSError(28, "No space left on device"), True, False),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), False, True),
        (ValueError("batch normalisation needs at least 2 images a batch"), False, False),
    ],
)
def test_a_workers_own_error_is_the_cause(own: Exception, *, is_machines: bool, is_devices: bool) -> None:
    for failures in ({0: own}, {0: CLOSED, 1: own}, {0: own, 1: DIED}):
        blamed = blame(WorkerGroupError("all of them", failures), 2)
        assert not isinstance(blamed, LostWorkerError)
        assert str(blamed) == f"2 workers together: {own}"
        assert (is_machines_fault(blamed), is_devices_fault(blamed)) == (is_machines, is_devices)


@pytest.mark.parametrize(
    "failures", [{1: DIED}, {0: CLOSED, 1: DIED}, {0: torch.distributed.DistBackendError("NCCL: unhandled")}]
)
def test_where_no_worker_has_an_error_of_its_own_one_died(failures: dict[int, Exception]) -> None:
    blamed = blame(WorkerGroupError("all of them", failures), 2)
    assert isinstance(blamed, LostWorkerError)
    assert str(blamed).startswith("2 workers together: one of them died: ")


def test_an_error_of_ray_train_itself_is_blamed_on_no_training() -> None:
    blamed = blame(WorkerHealthCheckFailedError("no answer", RuntimeError("gone")), 2)
    assert isinstance(blamed, LostWorkerError)
    assert "no answer gone" in str(blamed)


@pytest.mark.parametrize("error", [LostWorkerError("one of them died"), RunError("2 workers together: too large")])
def test_a_lost_worker_is_left_to_ray_tune_to_replace_and_any_other_error_is_a_result(error: RunError) -> None:
    def train(task: object) -> Epochs:
        raise error
        yield {}

    actor = TrialActor.__new__(TrialActor)
    actor.setup({"task": "a trial"}, train=train)
    if isinstance(error, LostWorkerError):
        with pytest.raises(LostWorkerError):
            actor.step()
    else:
        assert actor.step()["error"] == f"RunError: {error}"
    actor.cleanup()
