"""Random changes of a batch of images and labels, on the device that trains."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tuner.spec.hyperparameters import Hyperparameters
from tuner.train.augment.blend import blend, draw_cut, draw_share, gather_images, smooth_labels
from tuner.train.augment.boxes import draw_boxes, fill_boxes
from tuner.train.augment.colour import change_brightness, change_contrast, change_saturation
from tuner.train.augment.crop import Cropper, mirror
from tuner.train.augment.rand_augment import change_colours, compose_warps, draw_operations
from tuner.train.augment.subset import change_some
from tuner.train.augment.warp import build_affine, compose, warp

__all__ = ["Augmenter"]


class Augmenter:
    """What a configuration has done to each batch before it is trained on.

    In this order: crop, flip, rotation together with the geometric operations of ``rand_augment``, colour jitter,
    the other operations of ``rand_augment``, cutout, and mixup or CutMix. Each image has random numbers of its
    own; mixup and CutMix draw one share a batch. What is not asked for draws nothing.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        What is to be done; all else in it is ignored.
    num_classes : int
        How many classes there are.
    generator : torch.Generator
        On the device of the batches; seeded by its owner.
    fill : sequence of float, length channels, in units of a pixel value from 0 to 255, or None
        What cutout blanks with: the mean of the data, which normalises to zero, as in [1]_; None for the mean of
        each batch.

    Notes
    -----
    What comes from outside of an image is black: beyond the border of a crop, and at the corners of a rotation,
    which is sampled bilinearly. Colour jitter changes brightness, contrast and saturation in this order, and
    saturation does nothing unless there are three channels. Cutout's square is measured by the shorter side; its
    centre is anywhere in the image, so that part of it may lie outside. Labels are smoothed before they are
    blended.

    To be called outside of autocast, which would round what it computes.

    References
    ----------
    .. [1] DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
       arXiv:1708.04552, section 3.2.
    .. [2] Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412, figure 1 (a).
    .. [3] Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
       ICCV 2019, arXiv:1905.04899, equations 1 and 2.
    .. [4] Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
       arXiv:1512.00567, section 7, for the labels.
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        num_classes: int,
        generator: torch.Generator,
        fill: Sequence[float] | None = None,
    ) -> None:
        self._asked = hyperparameters
        self._num_classes = num_classes
        self._generator = generator
        self._fill = None if fill is None else torch.tensor(fill, dtype=torch.float32, device=generator.device)
        self._crop = Cropper(hyperparameters.crop_padding)

    @property
    def changes_images(self) -> bool:
        """Whether images are changed at all."""
        asked = self._asked
        return self._samples or any((asked.crop_padding, asked.flip, asked.cutout, asked.mixup, asked.cutmix))

    @property
    def _samples(self) -> bool:
        """Whether single images are computed with in floats."""
        return any((self._asked.rotation, self._asked.colour_jitter, self._asked.rand_augment))

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Parameters
        ----------
        images : uint8 tensor, shape (batch, channels, height, width), in channels-last order of memory
            Values 0 to 255; not overwritten.
        labels : int64 tensor, shape (batch,)
            Their classes.

        Returns
        -------
        images : tensor, shape (batch, channels, height, width), in channels-last order of memory
            Values 0 to 255. float32 with rotation, colour jitter, rand_augment or mixup; uint8 without. The very
            tensor that was given, if nothing changes images.
        labels : tensor
            int64 (batch,), those that were given; or, with label smoothing, mixup or CutMix, float32
            (batch, num_classes), whose rows sum to 1.
        """
        if self.changes_images:
            images = self._change(images)
        if not (self._asked.label_smoothing or self._asked.mixup or self._asked.cutmix):
            return images, labels
        targets = smooth_labels(labels, self._num_classes, self._asked.label_smoothing)
        if self._asked.mixup or self._asked.cutmix:
            return self._blend(images, targets)
        return images, targets

    def _change(self, images: Tensor) -> Tensor:
        """Change each image for itself."""
        num_images, device = len(images), self._generator.device
        if padding := self._asked.crop_padding:
            top, left = torch.randint(2 * padding + 1, (2, num_images), generator=self._generator, device=device)
            images = self._crop(images, top, left)
        if self._asked.flip:
            flipped = torch.rand(num_images, generator=self._generator, device=device) < 0.5
            images = mirror(images if padding else images.clone(), flipped)
        if self._samples:
            # planes of one channel meanwhile, since a factor of a pixel is then one of many values in a row
            planes = images.to(torch.float32, memory_format=torch.contiguous_format)
            images = self._sample(planes).contiguous(memory_format=torch.channels_last)
        if self._asked.cutout:
            images = self._cut_out(images)
        return images

    def _sample(self, images: Tensor) -> Tensor:
        """Rotate, jitter colours and do what rand_augment drew, on contiguous floats that may be overwritten."""
        num_images, height, width = len(images), *images.shape[2:]
        warps = []
        if self._asked.rotation:
            angles = self._draw_symmetric(num_images) * math.radians(self._asked.rotation)
            warps.append(build_affine(angle=angles))
        drawn = None
        if self._asked.rand_augment:
            drawn = draw_operations(num_images, self._asked.rand_augment, self._generator)
            warps.append(compose_warps(drawn, height, width))
        if warps:
            matrices = compose(*warps) if len(warps) == 2 else warps[0]
            is_moved = (matrices != torch.eye(3, device=matrices.device)).any(dim=2).any(dim=1)
            images = change_some(images, is_moved, warp, matrices)
        if self._asked.colour_jitter:
            for change in (change_brightness, change_contrast, change_saturation):
                images = change(images, 1 + self._asked.colour_jitter * self._draw_symmetric(num_images))
        return images if drawn is None else change_colours(images, drawn)

    def _draw_symmetric(self, count: int) -> Tensor:
        """Draw numbers that are uniform from -1 to 1."""
        return 2 * torch.rand(count, generator=self._generator, device=self._generator.device) - 1

    def _cut_out(self, images: Tensor) -> Tensor:
        """Blank a square of each image."""
        height, width = images.shape[2:]
        side = round(self._asked.cutout * min(height, width))
        rows, columns = draw_boxes(len(images), (height, width), (side, side), self._generator)
        fill = images.mean(dim=(0, 2, 3), dtype=torch.float32) if self._fill is None else self._fill
        content = (fill if images.is_floating_point() else fill.round()).to(images.dtype)
        return fill_boxes(images, rows, columns, content.repeat(width))

    def _blend(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Blend each image and its target with those of another one by mixup or CutMix, whichever is asked for."""
        device, shape = self._generator.device, (images.shape[2], images.shape[3])
        partners = torch.rand(len(images), generator=self._generator, device=device).argsort()
        others = gather_images(images, partners)
        if not self._asked.mixup:
            rows, columns, share = draw_cut(self._asked.cutmix, shape, self._generator)
            images = fill_boxes(images, rows, columns, others)
            return images, blend(targets, targets[partners], share)
        share = draw_share(self._asked.mixup, self._generator)
        weights = share.expand(shape)
        if self._asked.cutmix:
            # one weight a pixel says either, so that nobody waits for a GPU to hear which of both was drawn
            rows, columns, cut_share = draw_cut(self._asked.cutmix, shape, self._generator)
            is_cut = torch.rand((), generator=self._generator, device=device) < 0.5
            weights = torch.where(is_cut, (rows[0, :, None] & columns[0]).to(share.dtype), weights)
            share = torch.where(is_cut, cut_share, share)
        return blend(images.float(), others.float(), weights), blend(targets, targets[partners], share)
