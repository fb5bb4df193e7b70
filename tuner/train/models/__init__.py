"""The families of networks: one file each, from hyperparameters to a module."""

import importlib

import torch
from torch import nn

from tuner.spec.hyperparameters import ARCHITECTURES, Hyperparameters
from tuner.train.models.classifier import Classifier
from tuner.train.models.dropout import Dropout
from tuner.train.models.randomness import Randomness

__all__ = ["Classifier", "Dropout", "Randomness", "build_model"]

FAMILIES = {record: family for family, record in ARCHITECTURES.items()}


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
        On the CPU, or on the meta device within ``with torch.device("meta")``, where it has shapes and no weights.
        From normalised float (batch, channels, height, width) to float (batch, num_classes). While training, a network
        with heads at several depths returns a tuple, the last layer's scores first; its ``auxiliary_weight`` says what
        the others count in the loss.
    """
    architecture = hyperparameters.architecture
    family = FAMILIES[type(architecture)]
    # imported when it is wanted: some families need torchvision, which takes a second and tens of megabytes
    build = getattr(importlib.import_module(f"tuner.train.models.{family}"), f"build_{family}")
    # a layer draws weights as it is made, from the global generator; they are overwritten and the generator
    # is put back
    with torch.random.fork_rng(devices=[]):
        network = build(architecture, image_shape, num_classes, hyperparameters.dropout, randomness)
    assert isinstance(network, nn.Module)
    return network
