"""Every hyperparameter there is: what it means, what it may be, and what it is when a space does not name it.

A space may vary exactly what stands here. Families and optimizers carry hyperparameters of their own; the
rest belongs to every training.
"""

from typing import Any, Literal, TypeAlias

from pydantic import Field

from tuner.spec.model import SpecModel
from tuner.spec.space import Config


class SimpleCnn(SpecModel):
    """The lecture's first network: convolutions with ReLU, pooling between them, and a dense layer."""

    depth: int = Field(default=3, ge=1, le=8, description="Number of convolutions.")
    width: int = Field(default=32, ge=1, le=1024, description="Channels of every convolution.")
    kernel_size: Literal[1, 3, 5, 7] = Field(default=3, description="Side of the filters, in pixels.")
    batch_norm: bool = Field(default=False, description="Batch normalisation after every convolution.")
    pooling: Literal["max", "average", "stride"] = Field(
        default="max",
        description="How the map is halved between convolutions; stride: by the convolution itself.",
    )
    head: int = Field(default=0, ge=0, le=8192, description="Units of a hidden dense layer; 0 for none.")


class LeNet(SpecModel):
    """LeNet-5 (LeCun et al. 1998): two 5x5 convolutions with average pooling, three dense layers."""

    activation: Literal["tanh", "relu"] = Field(default="tanh", description="The non-linearity.")
    width: float = Field(default=1.0, gt=0, le=16, description="Multiplies the channels and units of every layer.")


class ResNet(SpecModel):
    """A residual network in three stages for small images (He et al. 2015, section 4.2)."""

    depth: Literal[8, 14, 20, 26, 32, 44, 56, 110] = Field(
        default=20, description="Number of weighted layers: 6n + 2, with n units a stage."
    )
    width: int = Field(default=16, ge=1, le=1024, description="Channels of the first stage; doubled at each later one.")
    unit: Literal[
        "original",
        "bn_after_addition",
        "relu_before_addition",
        "relu_only_preactivation",
        "full_preactivation",
    ] = Field(default="original", description="Order of operations in a residual unit (He et al. 2016, figure 4).")


class Sgd(SpecModel):
    """Stochastic gradient descent with momentum."""

    momentum: float = Field(default=0.9, ge=0, lt=1, description="Share of the last step that is taken again.")
    nesterov: bool = Field(default=False, description="Look ahead along the momentum before taking the gradient.")


class AdamW(SpecModel):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Decoupled decay, times the learning rate; l2, in the loss, is another thing.",
    )


Architecture: TypeAlias = SimpleCnn | LeNet | ResNet
Optimizer: TypeAlias = Sgd | AdamW

ARCHITECTURES: dict[str, type[Architecture]] = {"simple_cnn": SimpleCnn, "lenet": LeNet, "resnet": ResNet}
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "adamw": AdamW}


class Hyperparameters(SpecModel):
    """What one training needs to know beside its data, its length and its seed."""

    architecture: Architecture = Field(description="The family of networks.")
    optimizer: Optimizer = Field(default=Sgd(), description="The rule that turns gradients into steps.")
    learning_rate: float = Field(default=0.01, gt=0, le=100, description="Step size at the start.")
    learning_rate_decay: Literal["constant", "step", "cosine"] = Field(
        default="constant",
        description="constant; step: a tenth after half and a hundredth after three quarters of the epochs; "
        "cosine: to zero at the last step.",
    )
    batch_size: int = Field(default=128, ge=1, le=65536, description="Images a step.")
    l2: float = Field(
        default=0.0,
        ge=0,
        description="Half the squared norm of the weights, times this, is added to the loss.",
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability that a unit is dropped, where the network has a place for it.",
    )


COMPONENTS: dict[str, dict[str, type[Architecture]] | dict[str, type[Optimizer]]] = {
    "architecture": ARCHITECTURES,
    "optimizer": OPTIMIZERS,
}


def find_owner(name: str) -> tuple[type[SpecModel], str] | None:
    """Say which record a parameter belongs to.

    A key that stands under an alternative belongs to the innermost network or optimizer around it that has
    such a field, and to the training as a whole where none has: so a learning rate may depend on the
    architecture.

    Parameters
    ----------
    name : str
        A parameter's dotted name: key, or key.option.key and so on, outermost first.

    Returns
    -------
    (record, component) or None
        The record that has the field, and the component (``architecture``, ``optimizer`` or, for the training
        itself, an empty string); None if nothing has it.
    """
    *path, key = name.split(".")
    for parent, option in reversed(list(zip(path[::2], path[1::2], strict=True))):
        record = COMPONENTS.get(parent, {}).get(option)
        if record is not None and key in record.model_fields:
            return record, parent
    return (Hyperparameters, "") if key in Hyperparameters.model_fields else None


def build_hyperparameters(config: Config) -> Hyperparameters:
    """Turn one point of a space into the hyperparameters of a training.

    Parameters
    ----------
    config : mapping from dotted names to values
        A point of a checked space.

    Raises
    ------
    ValueError
        If a name belongs to nothing or a value is not allowed; a checked space yields no such config.
    """
    fields: dict[str, dict[str, Any]] = {"": {}, **{component: {} for component in COMPONENTS}}
    for name, value in config.items():
        owner = find_owner(name)
        if owner is None:
            raise ValueError(f"no hyperparameter is called {name!r}")
        fields[owner[1]][name.rpartition(".")[2]] = value
    training = fields.pop("")
    for component, own in fields.items():
        if component in training:
            training[component] = COMPONENTS[component][training[component]](**own)
    return Hyperparameters(**training)
