"""Whether images and labels look sane, before any network sees them."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tuner.train.checks.finding import Finding, judge
from tuner.train.data import ImageSplits

MOST_HASHED = 100_000
MOST_BLANK, MOST_SHARED = 0.01, 0.01
NEIGHBOURS_AMONG, NEIGHBOURS_OF = 4000, 500
DEVIATIONS = 3.0  # above a guess's accuracy
SHEET_CLASSES, SHEET_IMAGES, SHEET_SIDE, SHEET_LABEL = 12, 10, 56, 110


def check_images(splits: ImageSplits, rng: np.random.Generator) -> list[Finding]:
    """Look at the images and labels of a data set.

    Parameters
    ----------
    splits : ImageSplits
        The images to train on and to validate with.
    rng : numpy.random.Generator
        Where the images that are looked at are drawn from.
    """
    train, held_out = (_draw(rows, MOST_HASHED, rng) for rows in (splits.train, splits.validation))
    blank = float(np.mean([np.ptp(splits.images[row]) == 0 for row in held_out]))
    hashes = {_hash(splits.images[row]) for row in train}
    shared = float(np.mean([_hash(splits.images[row]) in hashes for row in held_out]))
    right, guess, bound = measure_neighbours(splits, rng)
    return [
        Finding(
            "data",
            "images vary",
            judge(blank, warn=blank > 0, fail=blank > MOST_BLANK),
            blank,
            f"at most {MOST_BLANK:.0%}",
            f"{blank:.1%} of the validation images have one colour",
            "look at how they were decoded" if blank else "",
        ),
        Finding(
            "data",
            "splits apart",
            judge(shared, warn=shared > MOST_SHARED, fail=False),
            shared,
            f"at most {MOST_SHARED:.0%}",
            f"{shared:.1%} of the validation images are trained on too",
            "take the copies out: validation looks better than it is" if shared > MOST_SHARED else "",
        ),
        Finding(
            "data",
            "labels fit images",
            judge(right, warn=right < bound, fail=False),
            right,
            f"at least {bound:.1%}",
            f"the nearest training image has an image's label in {right:.1%}, a guess in {guess:.1%}",
            "look at the contact sheet: are the labels shuffled?" if right < bound else "",
        ),
    ]


def measure_neighbours(splits: ImageSplits, rng: np.random.Generator) -> tuple[float, float, float]:
    """Measure how often an image has the label of the nearest training image, by the distance of pixels.

    Returns
    -------
    (float, float, float), fractions in [0, 1]
        The accuracy, that of a guess, and what is clearly above a guess.
    """
    among, of = _draw(splits.train, NEIGHBOURS_AMONG, rng), _draw(splits.validation, NEIGHBOURS_OF, rng)
    known, asked = (_shrink(splits.images[rows]) for rows in (among, of))
    distances = (known**2).sum(axis=1) - 2 * asked @ known.T
    right = float(np.mean(splits.labels[among][distances.argmin(axis=1)] == splits.labels[of]))
    shares = np.bincount(splits.labels[splits.train], minlength=splits.num_classes) / len(splits.train)
    guess = float((shares**2).sum())  # a neighbour that has nothing to do with an image has its label so often
    bound = guess + DEVIATIONS * float(np.sqrt(guess * (1 - guess) / len(of)))
    return right, guess, min(1.0, bound)  # of a few images no share is clearly above a guess, and all is the most


def draw_contact_sheet(splits: ImageSplits, rng: np.random.Generator) -> Image.Image:
    """Draw some training images of each class in a row, beside the name of the class; of many classes, some."""
    classes = np.sort(_draw(np.arange(splits.num_classes), SHEET_CLASSES, rng))
    sheet = Image.new("RGB", (SHEET_LABEL + SHEET_IMAGES * SHEET_SIDE, len(classes) * SHEET_SIDE), "white")
    pen = ImageDraw.Draw(sheet)
    for line, label in enumerate(classes):
        pen.text((4, line * SHEET_SIDE + SHEET_SIDE // 2 - 6), splits.class_names[label][:16], fill="black")
        rows = _draw(splits.train[splits.labels[splits.train] == label], SHEET_IMAGES, rng)
        for column, row in enumerate(rows):
            image = splits.images[row]
            drawn = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
            drawn = drawn.resize((SHEET_SIDE - 4, SHEET_SIDE - 4), Image.Resampling.NEAREST)
            sheet.paste(drawn, (SHEET_LABEL + column * SHEET_SIDE + 2, line * SHEET_SIDE + 2))
    return sheet


def _draw(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(rows, min(most, len(rows)), replace=False)


def _hash(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _shrink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Take every so many pixels, about 16 a side, as vectors without their mean."""
    step = max(1, max(images.shape[1:3]) // 16)
    flat = images[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat
