"""Files that hold a model, and files that hold a training under way."""

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuner.errors import InputError, RunError, TunerError
from tuner.spec.hyperparameters import COMPONENTS, Hyperparameters, build_hyperparameters
from tuner.spec.model import SpecModel
from tuner.spec.space import Scalar
from tuner.train.models import Classifier, Randomness, build_model

FORMAT = "tuner model 1"  # a checkpoint is a model's file with the training beside it


@dataclass(frozen=True)
class ModelDescription:
    """What must be known of a classifier to build and to use it.

    Attributes
    ----------
    hyperparameters : Hyperparameters
        What it is, and how it was trained.
    image_shape : tuple of int
        Height, width, channels of its images.
    class_names : tuple of str, length num_classes
        What each of its scores means.
    """

    hyperparameters: Hyperparameters
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]


def save_model(classifier: Classifier, description: ModelDescription, path: Path) -> None:
    """Save a classifier, with its normalisation, to a file that ``torch.load(weights_only=True)`` reads.

    A path that cannot be written is a RunError.

    Parameters
    ----------
    classifier : Classifier
        What to save.
    description : ModelDescription
        What is needed to build it again.
    path : Path
        Written whole or not at all.
    """
    write_state(path, describe_model(classifier, description))


def load_model(path: Path) -> tuple[Classifier, ModelDescription]:
    """Load a classifier, in evaluation mode and on the CPU, from its file or from a training's checkpoint.

    Parameters
    ----------
    path : Path
        What ``save_model`` or ``Trainer.save`` wrote.

    Returns
    -------
    Classifier, ModelDescription
        A module from images (batch, channels, height, width), values 0 to 255, to one score a class; and what
        it is.

    Raises
    ------
    InputError
        If the file is missing, cut short or none of ours.
    """
    try:
        state = read_state(path)
    except RunError as error:
        reason = next(iter(str(error.__cause__ or "another format").splitlines()), "")
        raise InputError(
            f"{path}: a model that tuner saved was expected, this file is missing, cut short, damaged or none "
            f"({reason}); name another, or save one with: "
            "tuner train CONFIG --output FILE"
        ) from error
    try:
        description = ModelDescription(
            build_hyperparameters(state["config"]), tuple(state["image_shape"]), tuple(state["class_names"])
        )
        channels = description.image_shape[2]
        network = build_model(
            description.hyperparameters,
            description.image_shape,
            len(description.class_names),
            Randomness(torch.Generator(), torch.Generator()),
        )
        classifier = Classifier(network, [0.0] * channels, [1.0] * channels)
        classifier.load_state_dict(state["classifier"])
    except TunerError as error:
        raise InputError(str(error)) from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: a model of this version of tuner was expected ({error})") from error
    return classifier.eval(), description


def describe_model(classifier: Classifier, description: ModelDescription) -> dict[str, Any]:
    """Put a classifier into plain containers, as ``write_state`` takes them."""
    return {
        "format": FORMAT,
        "config": build_config(description.hyperparameters),
        "image_shape": list(description.image_shape),
        "class_names": list(description.class_names),
        "classifier": classifier.state_dict(),
    }


def build_config(hyperparameters: Hyperparameters) -> dict[str, Scalar]:
    """Turn hyperparameters into the config that ``build_hyperparameters`` takes, with every value named."""
    config: dict[str, Scalar] = {}
    for name, value in hyperparameters:
        if isinstance(value, SpecModel):
            option = next(option for option, record in COMPONENTS[name].items() if type(value) is record)
            config[name] = option
            config |= {f"{name}.{option}.{key}": own for key, own in value}
        else:
            config[name] = value
    return config


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain containers and tensors to a file that is whole or not there.

    Raises
    ------
    RunError
        If the path cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    try:
        partial.write_bytes(buffer.getbuffer())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"{path}: the model cannot be saved ({error.strerror}); free space or give permission"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Read what ``write_state`` wrote, onto the CPU, without running any code that the file may hold.

    Raises
    ------
    RunError
        If the file is missing, cut short or none of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                archive.read(name)  # torch itself does not look at the checksums that it writes
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on broken bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{path}: a whole checkpoint was expected, this one is missing, cut short or damaged ({reason}); "
            "delete it to train again from the start"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{path}: a file of the format {FORMAT!r} was expected, this is another; delete it")
    return state
