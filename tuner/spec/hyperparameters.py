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
    batch_norm: bool = Field(default=False, description="Batch normalisation after every convolution.")


class AlexNet(SpecModel):
    """AlexNet (Krizhevsky et al. 2012): five convolutions, max pooling, three dense layers."""

    width: float = Field(default=1.0, gt=0, le=4, description="Multiplies the channels of every convolution.")
    batch_norm: bool = Field(default=False, description="Batch normalisation after every convolution.")
    head: int = Field(default=4096, ge=1, le=16384, description="Units of each of the two hidden dense layers.")


class Vgg(SpecModel):
    """VGG (Simonyan and Zisserman 2014): 3x3 convolutions only, doubled channels after each pooling."""

    depth: Literal[11, 13, 16, 19] = Field(default=16, description="Number of layers with weights.")
    batch_norm: bool = Field(default=False, description="Batch normalisation after every convolution.")
    width: float = Field(default=1.0, gt=0, le=4, description="Multiplies the channels of every convolution.")
    head: int = Field(default=4096, ge=1, le=16384, description="Units of each of the two hidden dense layers.")


class GoogLeNet(SpecModel):
    """GoogLeNet (Szegedy et al. 2014): nine inception blocks, trained at different depths."""

    block: Literal["bottleneck", "naive"] = Field(
        default="bottleneck", description="Inception blocks with 1x1 bottlenecks, or without: figure 2 (b) or (a)."
    )
    width: float = Field(default=1.0, gt=0, le=4, description="Multiplies the channels of every convolution.")
    batch_norm: bool = Field(default=True, description="Batch normalisation after every convolution.")
    auxiliary_weight: float = Field(
        default=0.3, ge=0, le=1, description="Weight in the loss of each of the two auxiliary heads; 0 for no heads."
    )


class ResNet(SpecModel):
    """A residual network (He et al. 2015): four stages for ImageNet, three for small images."""

    depth: Literal[8, 14, 18, 20, 26, 32, 34, 44, 50, 56, 101, 110, 152, 164] = Field(
        default=20,
        description="Number of weighted layers. 18, 34, 50, 101 and 152 are ImageNet's networks of four stages; the "
        "others have three stages, as for CIFAR-10: 6n + 2 layers with n basic units a stage, or 9n + 2 with n "
        "bottleneck units, rounded up to that.",
    )
    width: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Channels of the first stage, doubled at each later one; 0 for the paper's: 64 with four stages, "
        "16 with three.",
    )
    unit: Literal[
        "original",
        "bn_after_addition",
        "relu_before_addition",
        "relu_only_preactivation",
        "full_preactivation",
    ] = Field(default="original", description="Order of operations in a residual unit (He et al. 2016, figure 4).")
    block: Literal["auto", "basic", "bottleneck"] = Field(
        default="auto",
        description="Two 3x3 convolutions, or 1x1, 3x3, 1x1; auto: the paper's, bottlenecks at 50, 101, 152 and 164.",
    )


class Xception(SpecModel):
    """Xception (Chollet 2016): depthwise separable convolutions with residual connections."""

    width: float = Field(default=1.0, gt=0, le=4, description="Multiplies the channels of every convolution.")
    middle_blocks: int = Field(default=8, ge=0, le=64, description="Blocks of the middle flow.")
    depth_multiplier: int = Field(default=1, ge=1, le=8, description="Filters a channel in a depthwise convolution.")


class MobileNetV2(SpecModel):
    """MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks."""

    width: float = Field(default=1.0, gt=0, le=4, description="Multiplies the channels of every layer.")
    resolution: int = Field(
        default=0, ge=0, le=512, description="Images are resized to this many pixels a side first; 0: left as they are."
    )


class Vit(SpecModel):
    """A vision transformer (Dosovitskiy et al. 2020): patches of the image as a sequence."""

    patch: int = Field(default=16, ge=1, le=64, description="Side of a patch, in pixels.")
    depth: int = Field(default=12, ge=1, le=64, description="Number of encoder blocks.")
    heads: int = Field(default=12, ge=1, le=64, description="Attention heads of a block.")
    width: int = Field(
        default=768, ge=1, le=8192, description="Length of a patch's vector; rounded up to a multiple of the heads."
    )


class HogSvm(SpecModel):
    """Histograms of oriented gradients (Dalal and Triggs 2005), and a linear support vector machine."""

    cell_size: int = Field(default=8, ge=2, le=64, description="Side of a cell, in pixels.")
    orientations: int = Field(default=9, ge=2, le=36, description="Bins of a histogram, over half a turn.")
    C: float = Field(
        default=1.0, gt=0, description="Weight of the hinge losses' sum against half the squared norm of the weights."
    )


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


class RmsProp(SpecModel):
    """Each gradient over the root of its running mean square (Tieleman and Hinton 2012)."""

    smoothing: float = Field(default=0.99, ge=0, lt=1, description="Share of the mean square that is kept a step.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Share of the last step that is taken again.")


class Muon(SpecModel):
    """Momentum made orthogonal for each hidden weight matrix (Jordan et al. 2024); AdamW for all else."""

    momentum: float = Field(default=0.95, ge=0, lt=1, description="Share of the last step that is taken again.")
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Decoupled decay, times the learning rate; l2, in the loss, is another thing.",
    )


Architecture: TypeAlias = SimpleCnn | LeNet | AlexNet | Vgg | GoogLeNet | ResNet | Xception | MobileNetV2 | Vit | HogSvm
Optimizer: TypeAlias = Sgd | AdamW | RmsProp | Muon

ARCHITECTURES: dict[str, type[Architecture]] = {
    "simple_cnn": SimpleCnn,
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg": Vgg,
    "googlenet": GoogLeNet,
    "resnet": ResNet,
    "xception": Xception,
    "mobilenet_v2": MobileNetV2,
    "vit": Vit,
    "hog_svm": HogSvm,
}
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "adamw": AdamW, "rmsprop": RmsProp, "muon": Muon}


class Hyperparameters(SpecModel):
    """What one training needs to know beside its data, its length and its seed."""

    architecture: Architecture = Field(description="The family of networks.")
    optimizer: Optimizer = Field(default=Sgd(), description="The rule that turns gradients into steps.")
    learning_rate: float = Field(default=0.01, gt=0, le=100, description="The largest step size.")
    learning_rate_decay: Literal["constant", "step", "exponential", "cosine", "one_cycle"] = Field(
        default="constant",
        description="constant; step: a tenth after half and a hundredth after three quarters of the epochs; "
        "exponential: by the same factor each step, to a hundredth; cosine: to zero at the last step; one_cycle: up "
        "from a 25th over the first three tenths, then a cosine to zero.",
    )
    warm_up: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of all steps over which the learning rate first rises from zero, in a line; one_cycle has "
        "its own rise instead.",
    )
    batch_size: int = Field(default=128, ge=1, le=65536, description="Images a step.")
    micro_batch: int = Field(
        default=0,
        ge=0,
        le=65536,
        description="Images at once, if a step's are to be split and their gradients accumulated; 0: all of a step, "
        "split only where they do not fit into memory.",
    )
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
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is spread evenly over all classes."
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: in training an image counts the more the fewer its class has, so that all classes count "
        "the same.",
    )
    gradient_clip: float = Field(
        default=0.0, ge=0, description="Longest gradient over all weights; a longer one is shortened to it; 0: none is."
    )
    weight_average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the weights' exponential moving average that is kept a step; the average is what is "
        "validated and saved; 0: the weights themselves are.",
    )
    crop_padding: int = Field(
        default=0, ge=0, le=64, description="Images are padded by this many pixels and cropped at random; 0: not."
    )
    flip: bool = Field(default=False, description="Mirror every other image, left and right.")
    rotation: float = Field(default=0.0, ge=0, le=180, description="Rotate by up to this many degrees either way.")
    colour_jitter: float = Field(
        default=0.0, ge=0, le=1, description="Change brightness, contrast and saturation by up to this share."
    )
    cutout: float = Field(
        default=0.0, ge=0, le=1, description="Side of a square that is blanked at random, as a share of the image's."
    )
    mixup: float = Field(
        default=0.0, ge=0, le=10, description="Alpha of the Beta distribution by which pairs are blended; 0: none are."
    )
    cutmix: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Alpha of the Beta distribution of the area that is pasted from another image; 0: none is.",
    )
    rand_augment: int = Field(
        default=0, ge=0, le=10, description="Strength of two operations drawn at random for each image; 0: none are."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Of products while training; auto: what the device is fast at."
    )
    channels_last: bool | Literal["auto"] = Field(
        default="auto", description="Keep the channels of a pixel together in memory."
    )
    compile: bool | Literal["auto"] = Field(default="auto", description="Compile the network with torch.compile.")
    tf32: bool | Literal["auto"] = Field(
        default="auto", description="Let a GPU round the factors of float32 products to 10 bits."
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
