"""What a trained classifier makes of images."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.errors import InputError
from tuner.train.checkpoint import ModelDescription
from tuner.train.data.decode import Flaw, Wanted, decode_image
from tuner.train.loop import EVALUATION_VALUES
from tuner.train.memory import explained, give_up_onednn, is_out_of_memory, release
from tuner.train.models import Classifier


def predict(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what a classifier holds each class for.

    A classifier that does not fit into its device's memory with a single image is an OutOfMemoryError.

    Parameters
    ----------
    classifier : Classifier
        As ``load_model`` returns it, on any device.
    images : uint8 array, shape (num_images, height, width, channels), values 0 to 255
        Not normalised.

    Returns
    -------
    float64 array, shape (num_images, num_classes)
        Probabilities: the softmax of the scores.
    """
    device = next(classifier.parameters()).device
    size = max(1, EVALUATION_VALUES[device.type] // math.prod(images.shape[1:]))
    batches = (images[start : start + size] for start in range(0, len(images), size))
    with torch.inference_mode(), explained(device, "use a device with more"):
        parts = [_score(classifier, batch, device) for batch in batches]
    probabilities: NDArray[np.float64] = torch.cat(parts).numpy()
    return probabilities


def _score(classifier: Classifier, images: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return the probabilities of a batch; of its halves, if it does not fit into memory.

    Raises
    ------
    MemoryError
        If a single image does not fit into memory.
    RuntimeError
        If it does not on torch's own account, or torch fails.
    """
    try:
        batch = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
        probabilities: torch.Tensor = classifier(batch).double().softmax(dim=1).cpu()
        return probabilities
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(images) < 2:
            raise
        give_up_onednn(error)
    # outside of except, whose error holds the tensors that did not fit
    release(device)
    return torch.cat([_score(classifier, half, device) for half in np.array_split(images, 2)])


class Picture(NamedTuple):
    """An image file, read for a classifier: its path and its pixels, shape (height, width, channels)."""

    path: Path
    pixels: NDArray[np.uint8]


def read_pictures(paths: tuple[Path, ...], description: ModelDescription, *, resize: bool) -> list[Picture]:
    """Read image files as a classifier wants them.

    Parameters
    ----------
    paths : tuple of Path
        PNG, JPEG and what else Pillow reads.
    description : ModelDescription
        The classifier.
    resize : bool
        Whether images of another size are scaled: their middle square.

    Raises
    ------
    InputError
        If any cannot be read, does not decode, or has another size or other channels; all of them are named.
    """
    height, width, channels = description.image_shape
    kind = {1: "grey", 3: "RGB"}[channels]
    pictures: list[Picture] = []
    faults: list[str] = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            faults.append(f"{path}: cannot be read ({error.strerror})")
            continue
        wanted = Wanted(is_any_colour=channels == 3)
        pixels = decode_image(content, wanted)
        if resize and height == width and not isinstance(pixels, Flaw) and pixels.shape[2] == channels:
            pixels = decode_image(content, wanted._replace(size=height))
        if isinstance(pixels, Flaw):
            faults.append(f"{path}: {pixels.text}")
        elif pixels.shape != description.image_shape:
            found = f"{pixels.shape[1]}x{pixels.shape[0]} {'grey' if pixels.shape[2] == 1 else 'RGB'}"
            advice = "scale it with --resize" if height == width else "scale it"
            advice = advice if pixels.shape[2] == channels else f"make it {kind}"
            faults.append(f"{path}: the model takes images of {width}x{height} {kind}, found {found}; {advice}")
        else:
            pictures.append(Picture(path, pixels))
    if faults:
        raise InputError("\n".join(faults))
    return pictures
