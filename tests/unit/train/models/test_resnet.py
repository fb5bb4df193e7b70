"""The five residual units."""

import pytest
import torch
from torch import Tensor, nn

from tuner.spec.hyperparameters import ResNet
from tuner.train.models import Randomness
from tuner.train.models.resnet import UNITS, ResidualUnit, Subsample, build_resnet

NAMES = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}
# figure 4 (a) to (e), read from top to bottom along the residual path
FIGURE = {
    "original": "conv bn relu conv bn + relu",
    "bn_after_addition": "conv bn relu conv + bn relu",
    "relu_before_addition": "conv bn relu conv bn relu +",
    "relu_only_preactivation": "relu conv bn relu conv bn +",
    "full_preactivation": "bn relu conv bn relu conv +",
}


def build(unit: str, depth: int = 14) -> nn.Sequential:
    architecture = ResNet.model_validate({"depth": depth, "width": 4, "unit": unit})
    randomness = Randomness(torch.Generator().manual_seed(0), torch.Generator())
    return build_resnet(architecture, (8, 8, 1), 10, 0.0, randomness)


def trace(model: nn.Module, images: Tensor) -> list[str]:
    """Name the operations in the order in which they really run; + is where a unit adds."""
    order: list[str] = []
    for module in model.modules():
        name = NAMES.get(type(module))
        if name:
            module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        if isinstance(module, ResidualUnit):
            module.after.register_forward_pre_hook(lambda *_: order.append("+"))
    model(images)
    return order


@pytest.mark.parametrize("unit", UNITS)
def test_operations_run_in_the_papers_order(unit: str) -> None:
    units = [module for module in build(unit).modules() if isinstance(module, ResidualUnit)]
    assert len(units) == 6
    for later in units[1:]:
        channels = next(m.in_channels for m in later.modules() if isinstance(m, nn.Conv2d))
        assert " ".join(trace(later, torch.randn(2, channels, 8, 8))) == FIGURE[unit]


@pytest.mark.parametrize("unit", UNITS)
def test_stem_and_end_fit_the_unit(unit: str) -> None:
    order = " ".join(trace(build(unit, depth=8), torch.randn(2, 1, 8, 8)))
    preactivation = FIGURE[unit].partition("conv")[0]
    first = FIGURE[unit].removeprefix(preactivation)
    assert order == f"conv bn relu {first} {FIGURE[unit]} {FIGURE[unit]} {preactivation}".strip()


@pytest.mark.parametrize("unit", ["relu_before_addition", "relu_only_preactivation", "full_preactivation"])
def test_nothing_follows_the_addition_so_that_the_input_passes_unchanged(unit: str) -> None:
    later = [module for module in build(unit).modules() if isinstance(module, ResidualUnit)][1]
    for module in later.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
    maps = torch.randn(2, 4, 8, 8)
    assert torch.equal(later(maps), maps)


def test_the_shortcut_takes_every_other_pixel_and_adds_empty_channels() -> None:
    maps = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4)
    shortened = Subsample(3)(maps)
    assert shortened.shape == (2, 6, 3, 2)
    assert torch.equal(shortened[:, :3], maps[:, :, ::2, ::2])
    assert not shortened[:, 3:].any()
