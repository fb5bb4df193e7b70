"""A model as a folder that MLflow serves. Importing this imports torch."""

import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pytorch
from mlflow.models import infer_signature
from numpy.typing import NDArray

NEEDED = ("mlflow", "numpy", "torch")  # by whoever loads the folder


def export_model(
    classifier: Any, example: NDArray[Any], folder: Path, metadata: Mapping[str, str], files: Sequence[Path]
) -> None:
    """Write a classifier as a folder that MLflow serves: an exported program, which needs no code of ours.

    It is exported by torch, not pickled.

    Parameters
    ----------
    classifier : Module
        From float images (batch, channels, height, width), values 0 to 255, to scores; in evaluation mode.
    example : float32 array, shape (2, channels, height, width)
        Images to export it with, and to show how it is called.
    folder : Path
        Is replaced.
    metadata : mapping
        Goes with the model.
    files : sequence of Path
        Are put beside it.
    """
    if folder.exists():
        shutil.rmtree(folder)
    quiet = logging.getLogger("mlflow")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own export
            scores = classifier(_as_tensor(classifier, example)).detach().numpy()
            mlflow.pytorch.save_model(
                classifier,
                str(folder),
                signature=infer_signature(example, scores),
                input_example=example,
                serialization_format="pt2",
                extra_files=[str(path) for path in files],
                metadata=dict(metadata),
                pip_requirements=[f"{name}=={version(name)}" for name in NEEDED],  # MLflow would look for them
            )
    finally:
        quiet.setLevel(level)


def _as_tensor(classifier: Any, example: NDArray[Any]) -> Any:
    """Turn an array into a tensor of the kind that the classifier's own are of."""
    return next(classifier.parameters()).new_tensor(example)
