"""The vision transformer."""

import math

import torch
from torch import Generator, Tensor, nn
from torchvision.models.vision_transformer import Encoder

from tuner.spec.hyperparameters import Vit
from tuner.train.models.dropout import Dropout
from tuner.train.models.initialise import initialise
from tuner.train.models.randomness import Randomness

EXPANSION = 4  # units of a block's perceptron, in widths
POSITION_DEVIATION = 0.02


class VisionTransformer(nn.Module):
    """Patches and a class token through an encoder; the token's vector is what the scores are read from.

    Attributes
    ----------
    class_token : Parameter, shape (1, 1, width)
        The sequence's first vector.
    patches : Conv2d
        From images to one vector a patch.
    encoder : Module
        Adds positions; from float (batch, 1 + patches, width) to the same shape.
    classifier : Linear
        From width to the number of classes.
    padding : tuple of int
        Zeros at the left, right, top and bottom of an image.
    """

    def __init__(
        self, patches: nn.Conv2d, encoder: nn.Module, classifier: nn.Linear, padding: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, patches.out_channels))
        self.patches = patches
        self.encoder = encoder
        self.classifier = classifier
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        """Map float (batch, channels, height, width) to float (batch, num_classes)."""
        if any(self.padding):
            images = nn.functional.pad(images, self.padding)
        vectors = self.patches(images).flatten(2).transpose(1, 2)
        token = self.class_token.expand(vectors.shape[0], -1, -1)
        scores: Tensor = self.classifier(self.encoder(torch.cat((token, vectors), dim=1))[:, 0])
        return scores


def build_vit(
    architecture: Vit,
    image_shape: tuple[int, int, int],
    num_classes: int,
    dropout: float,
    randomness: Randomness,
) -> VisionTransformer:
    """Build a projection of patches, encoder blocks of attention and a perceptron, and a dense layer.

    Parameters
    ----------
    architecture : Vit
        Side of a patch, number of blocks, their heads, and the length of the vectors.
    image_shape : tuple of int
        Height, width, channels of the images.
    num_classes : int
        How many scores come out.
    dropout : float, at least 0 and below 1
        After the positions are added, and after each dense layer of a block but those that make queries, keys and
        values; none on the attention.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    VisionTransformer
        From float (batch, channels, height, width) to float (batch, num_classes).

    Notes
    -----
    The encoder is torchvision's. By default, at 224x224x3 and 1000 classes, it is ViT-B/16 with 86,567,656 weights.
    The perceptron of a block has four times as many units as the vectors are long.

    A patch is no larger than the image's shorter side. Images are padded with zeros all around to whole patches, so
    28x28 with patches of 16 has four. Positions are learned for this one size of image.

    Dense layers are drawn as in the paper's code: uniform after Glorot, queries, keys and values each by themselves;
    positions are normal with a deviation of 0.02, the class token starts at zero.

    References
    ----------
    .. [1] Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021,
       arXiv:2010.11929, section 3.1 and appendix B.1.
    """
    height, width, channels = image_shape
    patch = min(architecture.patch, height, width)
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    missing_rows, missing_columns = rows * patch - height, columns * patch - width
    length = math.ceil(architecture.width / architecture.heads) * architecture.heads

    encoder = Encoder(
        seq_length=1 + rows * columns,
        num_layers=architecture.depth,
        num_heads=architecture.heads,
        hidden_dim=length,
        mlp_dim=EXPANSION * length,
        dropout=0.0,
        attention_dropout=0.0,
    )
    for name, module in list(encoder.named_modules()):
        if isinstance(module, nn.Dropout):
            encoder.set_submodule(name, Dropout(dropout, randomness.dropout))
    network = VisionTransformer(
        nn.Conv2d(channels, length, patch, stride=patch),
        encoder,
        nn.Linear(length, num_classes),
        (
            missing_columns // 2,
            missing_columns - missing_columns // 2,
            missing_rows // 2,
            missing_rows - missing_rows // 2,
        ),
    )
    if not network.class_token.is_meta:
        _initialise_transformer(network, randomness.weights)
    return network


@torch.no_grad()
def _initialise_transformer(network: VisionTransformer, generator: Generator) -> None:
    nn.init.normal_(network.encoder.get_parameter("pos_embedding"), std=POSITION_DEVIATION, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            for matrix in module.in_proj_weight.chunk(3):
                nn.init.xavier_uniform_(matrix, generator=generator)
            nn.init.zeros_(module.in_proj_bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    fan_in = network.patches.weight[0].numel()
    nn.init.trunc_normal_(network.patches.weight, std=math.sqrt(1 / fan_in), generator=generator)
    assert network.patches.bias is not None
    nn.init.zeros_(network.patches.bias)
    initialise(network.classifier, "none", generator)
