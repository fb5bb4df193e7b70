"""Images and labels: checked, decoded once, shared by all trials of a node, split the same way everywhere.

Nothing here imports torch, so that a driver can prepare data without paying for it.
"""

from tuner.train.data.images import LabelledImages
from tuner.train.data.opening import Opening
from tuner.train.data.prepare import PreparedData, open_images, prepare, prepare_test
from tuner.train.data.splits import ImageSplits, join_validation, load_splits, open_splits

__all__ = [
    "ImageSplits",
    "LabelledImages",
    "Opening",
    "PreparedData",
    "join_validation",
    "load_splits",
    "open_images",
    "open_splits",
    "prepare",
    "prepare_test",
]
