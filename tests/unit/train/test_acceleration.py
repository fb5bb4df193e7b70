"""What auto means on this device, and a scaled loss."""

import pytest
import torch

from tuner.spec.hyperparameters import Hyperparameters, LeNet
from tuner.train.acceleration import LossScaler, choose_acceleration

CPU = torch.device("cpu")
SMALL, LARGE = 10**6, 10**8  # multiply-adds


def test_a_cpu_is_used_as_was_measured_best() -> None:
    chosen = choose_acceleration(Hyperparameters(architecture=LeNet()), CPU, LARGE)
    assert chosen.device.startswith("cpu")
    assert (chosen.precision, chosen.channels_last, chosen.compile, chosen.tf32) == ("float32", True, False, False)


@pytest.mark.parametrize(
    ("capability", "precision", "tf32"), [(9, "bfloat16", True), (8, "bfloat16", True), (7, "float16", False)]
)
def test_a_gpu_is_used_by_what_it_can(
    capability: int, precision: str, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (capability, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    chosen = choose_acceleration(Hyperparameters(architecture=LeNet()), torch.device("cuda"), LARGE)
    assert (chosen.device, chosen.precision, chosen.tf32) == ("a GPU", precision, tf32)
    small = choose_acceleration(Hyperparameters(architecture=LeNet()), torch.device("cuda"), SMALL)
    assert (small.precision, small.tf32) == ("float32", tf32)


def test_what_is_asked_for_is_kept() -> None:
    asked = Hyperparameters(architecture=LeNet(), precision="bfloat16", channels_last=False, compile=True, tf32=True)
    chosen = choose_acceleration(asked, CPU, SMALL)
    assert (chosen.precision, chosen.channels_last, chosen.compile, chosen.tf32) == ("bfloat16", False, True, True)
    assert chosen.memory_format == torch.contiguous_format
    with chosen.autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_scaled_loss_gives_the_same_gradients() -> None:
    scaler, weight = LossScaler(is_needed=True), torch.tensor([3.0], requires_grad=True)
    scaler.scale((weight**2).sum()).backward()
    assert weight.grad.item() > 1000
    assert scaler.unscale([weight.grad])
    assert weight.grad.item() == 6


def test_an_overflow_leaves_a_step_out_and_halves_the_scale() -> None:
    scaler = LossScaler(is_needed=True)
    before = scaler.state_dict()["scale"]
    assert not scaler.unscale([torch.tensor([float("inf")])])
    assert scaler.state_dict()["scale"] == before / 2
    for _ in range(2000):
        assert scaler.unscale([torch.ones(1)])
    assert scaler.state_dict()["scale"] == before
    again = LossScaler(is_needed=True)
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict()


def test_nothing_is_scaled_where_it_is_not_needed() -> None:
    scaler, gradient = LossScaler(is_needed=False), torch.tensor([float("inf")])
    assert scaler.scale(torch.tensor(2.0)) == 2
    assert scaler.unscale([gradient])
