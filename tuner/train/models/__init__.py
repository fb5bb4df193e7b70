"""The families of networks: one file each, from hyperparameters to a module."""

import torch
from torch import nn

from tuner.spec.hyperparameters import Hyperparameters, LeNet, SimpleCnn
from tuner.train.models.classifier import Classifier
from tuner.train.models.dropout import Dropout
from tuner.train.models.lenet import build_lenet
from tuner.train.models.randomness import Randomness
from tuner.train.models.resnet import build_resnet
from tuner.train.models.simple_cnn import build_simple_cnn

__all__ = ["Classifier", "Dropout", "Randomness", "build_model"]


def build_model(
    hyperparameters: Hyperparameters,
    image_shape: tuple[int, int, int],
    num_classes: int,
    randomness: Randomness,
) -> nn.Module:
    """Build the network of one configuration, with random weights.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        The family with its options, and dropout.
    image_shape : tuple of int
        Height, width, channels; from 8x8 grey to 224x224 in colour. How each family adapts stands at its own
        function.
    num_classes : int
        How many scores come out.
    randomness : Randomness
        For the weights now, and for dropout while training.

    Returns
    -------
    Module
        On the CPU, from normalised float (batch, channels, height, width) to float (batch, num_classes).
    """
    architecture = hyperparameters.architecture
    options = (hyperparameters.dropout, randomness)
    # a layer draws weights as it is made, from the global generator; they are overwritten and the generator
    # is put back
    with torch.random.fork_rng(devices=[]):
        if isinstance(architecture, SimpleCnn):
            return build_simple_cnn(architecture, image_shape, num_classes, *options)
        if isinstance(architecture, LeNet):
            return build_lenet(architecture, image_shape, num_classes, *options)
        return build_resnet(architecture, image_shape, num_classes, *options)
