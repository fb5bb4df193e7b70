"""Images from files to probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tuner.errors import InputError
from tuner.spec.hyperparameters import build_hyperparameters
from tuner.train.checkpoint import ModelDescription, load_model
from tuner.train.loop import EVALUATION_VALUES
from tuner.train.models import Classifier, Randomness, build_model
from tuner.train.predict import predict, read_pictures

LENET = build_hyperparameters({"architecture": "lenet"})
GREY = ModelDescription(LENET, (8, 8, 1), ("a", "b", "c"))
COLOUR = ModelDescription(LENET, (8, 8, 3), ("a", "b", "c"))


def save(path: Path, *shape: int) -> Path:
    """An image of that shape, all pixels 200."""
    Image.fromarray(np.full(shape, 200, np.uint8)).save(path)
    return path


def test_images_of_the_right_size_come_as_they_are_and_others_only_if_scaled(tmp_path: Path) -> None:
    right, large = save(tmp_path / "right.png", 8, 8), save(tmp_path / "large.png", 30, 20)
    (picture,) = read_pictures((right,), GREY, resize=False)
    assert (picture.pixels == 200).all()
    with pytest.raises(InputError, match=r"takes images of 8x8 grey, found 20x30 grey; scale it with --resize"):
        read_pictures((right, large), GREY, resize=False)
    assert [one.pixels.shape for one in read_pictures((right, large), GREY, resize=True)] == [(8, 8, 1)] * 2


def test_grey_becomes_colour_and_colour_is_not_made_grey(tmp_path: Path) -> None:
    assert read_pictures((save(tmp_path / "grey.png", 8, 8),), COLOUR, resize=False)[0].pixels.shape == (8, 8, 3)
    with pytest.raises(InputError, match="8x8 grey, found 8x8 RGB"):
        read_pictures((save(tmp_path / "colour.png", 8, 8, 3),), GREY, resize=True)


def test_a_model_of_images_that_are_no_squares_takes_those_that_fit_and_scales_none(tmp_path: Path) -> None:
    wide = ModelDescription(LENET, (8, 12, 1), ("a", "b", "c"))
    right, large = save(tmp_path / "right.png", 8, 12), save(tmp_path / "large.png", 16, 24)
    assert read_pictures((right,), wide, resize=True)[0].pixels.shape == (8, 12, 1)
    with pytest.raises(InputError, match=r"takes images of 12x8 grey, found 24x16 grey; scale it$"):
        read_pictures((right, large), wide, resize=True)


def test_an_image_of_other_channels_is_told_with_its_own_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"takes images of 8x8 grey, found 20x30 RGB; make it grey$"):
        read_pictures((save(tmp_path / "colour.png", 30, 20, 3),), GREY, resize=True)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(save(tmp_path / "whole.png", 8, 8).read_bytes()[:40])
    with pytest.raises(InputError) as refused:
        read_pictures((broken, tmp_path / "nowhere.png"), GREY, resize=False)
    assert "broken.png: does not decode" in str(refused.value)
    assert "nowhere.png: cannot be read" in str(refused.value)


def test_a_file_that_is_no_image_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"notes\.txt: does not decode \(its bytes are of no image format"):
        read_pictures((tmp_path / "notes.txt",), GREY, resize=False)


def test_a_file_that_is_no_model_is_not_to_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a model that tuner saved was expected") as refused:
        load_model(save(tmp_path / "photo.png", 8, 8))
    assert "delete" not in str(refused.value)
    assert "(File is not a zip file)" in str(refused.value)


def test_probabilities_do_not_depend_on_the_batch() -> None:
    network = build_model(LENET, (8, 8, 1), 3, Randomness(torch.Generator().manual_seed(0), torch.Generator()))
    classifier = Classifier(network, [100.0], [50.0]).eval()
    num_images = EVALUATION_VALUES["cpu"] // 64 + 3
    images = np.random.default_rng(0).integers(0, 256, (num_images, 8, 8, 1), dtype=np.uint8)
    together = predict(classifier, images)
    assert together.shape == (num_images, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1)
    np.testing.assert_allclose(together[-2:], predict(classifier, images[-2:]), atol=1e-6)
