"""The contestants of the training loop's benchmark that are ours: they reach into the trainer."""

import numpy as np
import torch
from throughput import BATCH, build_limit, build_ours, measure_input_share

from tuner.train.data import ImageSplits


def make_photographs() -> ImageSplits:
    """Two batches of noise in ten classes."""
    count = 2 * BATCH
    images = np.random.default_rng(0).integers(0, 256, (count + 10, 32, 32, 3), dtype=np.uint8)
    labels, rows = np.arange(count + 10, dtype=np.int64) % 10, np.arange(count + 10)
    mean, std = np.full(3, 127.0), np.full(3, 70.0)
    return ImageSplits(images, labels, rows[:count], rows[count:], mean, std, tuple("abcdefghij"), "noise")


def test_a_piece_trains_so_many_batches_and_its_input_is_timed() -> None:
    torch.set_num_threads(1)
    splits = make_photographs()
    trainer, piece = build_ours("simple_cnn", splits)
    piece(2)
    assert trainer.epoch == 1
    assert 0 < measure_input_share(trainer, piece, 1) < 1
    assert trainer.epoch == 2
    build_limit("simple_cnn", splits)(1)
