"""Augmentation: what is done to a batch, and what never happens to it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tuner.spec.hyperparameters import Hyperparameters, LeNet
from tuner.train.augment import Augmenter, colour, rand_augment, subset
from tuner.train.augment.blend import draw_cut, draw_share, smooth_labels
from tuner.train.augment.boxes import draw_boxes, fill_boxes
from tuner.train.augment.crop import Cropper, crop_pixels, mirror
from tuner.train.augment.warp import build_affine, compose, warp

CHANGES: dict[str, dict[str, Any]] = {
    "crop": {"crop_padding": 4},
    "flip": {"flip": True},
    "crop and flip": {"crop_padding": 2, "flip": True},
    "rotation": {"rotation": 30.0},
    "colour": {"colour_jitter": 0.5},
    "cutout": {"cutout": 0.5},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "mixup or cutmix": {"mixup": 0.4, "cutmix": 1.0},
    "rand_augment": {"rand_augment": 9},
}
CHANGES["all"] = {key: value for change in CHANGES.values() for key, value in change.items()} | {"label_smoothing": 0.1}
FLOATS = {"rotation", "colour", "mixup", "mixup or cutmix", "rand_augment", "all"}
BLENDING = {"mixup", "cutmix", "mixup or cutmix", "all"}
NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(change: dict[str, Any], generator: torch.Generator, fill: list[float] | None = None) -> Augmenter:
    return Augmenter(Hyperparameters(architecture=LeNet(), **change), NUM_CLASSES, generator, fill)


def draw_batch(
    count: int, height: int = 12, width: int = 12, channels: int = 3, seed: int = 9
) -> tuple[Tensor, Tensor]:
    images = torch.randint(256, (count, height, width, channels), dtype=torch.uint8, generator=seeded(seed))
    return images.permute(0, 3, 1, 2), torch.randint(NUM_CLASSES, (count,), generator=seeded(seed + 1))


def is_channels_last(images: Tensor) -> bool:
    return images.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "shape", [(16, 8, 8, 1), (6, 9, 14, 3), (1, 32, 32, 3), (2, 224, 224, 3), (1, 8, 8, 1)], ids=str
)
class TestContract:
    """Every option does this with every size of image."""

    def test_shapes_types_order_and_range_are_kept(
        self, change: dict[str, Any], shape: tuple[int, ...], request: pytest.FixtureRequest
    ) -> None:
        images, labels = draw_batch(*shape)
        before = images.clone()
        name = next(name for name, one in CHANGES.items() if one is change)
        for seed in range(3):
            changed, targets = build(change, seeded(seed))(images, labels)
            assert changed.shape == images.shape
            assert changed.dtype == (torch.float32 if name in FLOATS else torch.uint8)
            assert is_channels_last(changed)
            assert changed.min() >= 0
            assert changed.max() <= 255
            assert changed is not images
            if name in BLENDING:
                assert targets.shape == (len(labels), NUM_CLASSES)
                assert targets.dtype == torch.float32
                torch.testing.assert_close(targets.sum(1), torch.ones(len(labels)), rtol=0, atol=1e-6)
                assert targets.min() >= 0
            else:
                assert targets is labels
        assert torch.equal(images, before), "what was given is not overwritten"

    def test_the_generator_alone_decides(self, change: dict[str, Any], shape: tuple[int, ...]) -> None:
        batches = [draw_batch(*shape, seed=seed) for seed in range(4)]
        before = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002 the global one is watched
        one, same, other = ([augment(*b) for b in batches] for augment in (build(change, seeded(s)) for s in (3, 3, 4)))
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
        for (images, targets), (images_again, targets_again) in zip(one, same, strict=True):
            assert torch.equal(images, images_again)
            assert torch.equal(targets, targets_again)
        if len(batches[0][0]) > 1:
            assert any(not torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_without_any_option_nothing_is_touched_and_nothing_drawn() -> None:
    generator = seeded()
    before = generator.get_state()
    augment = build({}, generator)
    images, labels = draw_batch(3)
    changed, targets = augment(images, labels)
    assert changed is images
    assert targets is labels
    assert torch.equal(generator.get_state(), before)
    assert not augment.changes_images


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_says_whether_it_changes_images(change: dict[str, Any]) -> None:
    assert build(change, seeded()).changes_images
    assert not build({"label_smoothing": 0.1}, seeded()).changes_images


def test_reseeding_repeats_an_epoch_with_batches_of_changing_size() -> None:
    generator = seeded()
    augment = build(CHANGES["all"], generator)
    epochs = []
    for _ in range(2):
        generator.manual_seed(5)
        epochs.append([augment(*draw_batch(count, seed=count))[0] for count in (4, 5, 4)])
    assert all(torch.equal(one, other) for one, other in zip(*epochs, strict=True))


@given(
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 3, 4]),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_crops_are_pieces_of_the_padded_images(
    count: int, height: int, width: int, channels: int, padding: int, seed: int
) -> None:
    images, _ = draw_batch(count, height, width, channels, seed)
    top, left = torch.randint(2 * padding + 1, (2, count), generator=seeded(seed))
    cropper = Cropper(padding)
    cropper(draw_batch(count + 1, height, width, channels)[0], *torch.zeros((2, count + 1), dtype=torch.int64))
    crops = cropper(images, top, left)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    for image, y, x, crop in zip(padded, top.tolist(), left.tolist(), crops, strict=True):
        assert torch.equal(crop, image[:, y : y + height, x : x + width])
    assert torch.equal(crops, crop_pixels(images, top, left, padding)), "a GPU's way"
    assert is_channels_last(crops)


def test_offsets_are_uniform_and_half_of_the_images_are_mirrored() -> None:
    padding, count = 2, 5000
    images, labels = draw_batch(1, 6, 6, 1)
    images = images.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    cropped, _ = build({"crop_padding": padding, "flip": True}, seeded())(images, labels.expand(count))
    padded = torch.nn.functional.pad(images[0], (padding,) * 4)
    found = torch.zeros(2, 5, 5)
    for flipped, y, x in itertools.product(range(2), range(5), range(5)):
        piece = padded[:, y : y + 6, x : x + 6]
        found[flipped, y, x] = (cropped == (piece.flip(2) if flipped else piece)).flatten(1).all(1).sum()
    assert found.sum() == count, "each one is one of the fifty"
    expected = count / 50
    assert ((found - expected) ** 2 / expected).sum() < 85.4, "chi-square of 49 degrees of freedom at 0.001"
    assert abs(found[1].sum().item() / count - 0.5) < 3 * 0.5 / math.sqrt(count)


def test_mirroring_swaps_left_and_right_of_the_chosen() -> None:
    images, _ = draw_batch(4, 5, 7)
    mirrored = mirror(images.clone(), torch.tensor([True, False, False, True]))
    assert torch.equal(mirrored[1:3], images[1:3])
    assert torch.equal(mirrored[0], images[0].flip(2))
    assert torch.equal(mirrored[3], images[3].flip(2))


def test_a_gpu_changes_the_same_images_as_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = draw_batch(64, 9, 11)
    cpu = build(CHANGES["all"], seeded())(*batch)  # and then a GPU's ways, on the CPU

    def change_all(images: Tensor, chosen: Tensor, change: Any, *amounts: Tensor) -> Tensor:
        return torch.where(chosen[:, None, None, None], change(images, *amounts), images)

    monkeypatch.setattr(subset, "_change_rows", change_all)
    monkeypatch.setattr(
        Cropper, "_crop_windows", lambda self, images, top, left: crop_pixels(images, top, left, self.padding)
    )
    gpu = build(CHANGES["all"], seeded())(*batch)
    torch.testing.assert_close(cpu[0], gpu[0], rtol=0, atol=1e-3)
    for change in CHANGES.values():
        assert is_channels_last(build(change, seeded())(*batch)[0])
    assert torch.equal(cpu[1], gpu[1])


def test_on_an_accelerator_no_number_is_waited_for() -> None:
    # the meta device has no values: whoever asks for one fails
    images, rows = torch.empty((4, 3, 8, 8), device="meta"), torch.empty(4, device="meta")
    boxes = [torch.empty((4, 8), dtype=torch.bool, device="meta")] * 2
    drawn = rand_augment.Drawn(
        torch.empty((2, 4), dtype=torch.int64, device="meta"), torch.empty((2, 4), device="meta")
    )
    assert mirror(images, rows < 0.5).shape == images.shape
    assert crop_pixels(images, rows.long(), rows.long(), 2).shape == images.shape
    assert warp(images, rand_augment.compose_warps(drawn, 8, 8)).shape == images.shape
    assert rand_augment.change_colours(images, drawn).shape == images.shape
    assert fill_boxes(images, *boxes, images).shape == images.shape
    assert smooth_labels(rows.long(), 7, 0.1).shape == (4, 7)


@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_fixed_angles_turn_as_they_should(size: tuple[int, int]) -> None:
    images = draw_batch(2, *size)[0].float()
    turned = {angle: warp(images, build_affine(angle=torch.full((2,), math.radians(angle)))) for angle in (0, 90, 180)}
    torch.testing.assert_close(turned[0], images, rtol=0, atol=1e-3)
    torch.testing.assert_close(turned[180], images.flip(2, 3), rtol=0, atol=0.05)
    if size[0] == size[1]:
        torch.testing.assert_close(turned[90], images.rot90(dims=(2, 3)), rtol=0, atol=0.05)


def test_a_translation_moves_whole_pixels_and_lets_black_in() -> None:
    images = draw_batch(1, 6, 9)[0].float()
    zero = torch.zeros(1)
    moved = warp(images, build_affine(angle=zero, shift_x=zero + 2, shift_y=zero - 1))
    torch.testing.assert_close(moved[:, :, 1:, :-2], images[:, :, :-1, 2:], rtol=0, atol=1e-3)
    assert not moved[:, :, :, -2:].any()
    assert not moved[:, :, :1].any()


def test_a_shear_slides_lines_by_their_distance_from_the_centre() -> None:
    images = draw_batch(1, 5, 9)[0].float()
    zero = torch.zeros(1)
    sheared = warp(images, build_affine(angle=zero, shear_x=zero + 1))
    for line, shift in enumerate((-2, -1, 0, 1, 2)):
        kept = slice(max(0, -shift), 9 - max(0, shift))
        source = slice(max(0, shift), 9 - max(0, -shift))
        torch.testing.assert_close(sheared[:, :, line, kept], images[:, :, line, source], rtol=0, atol=1e-3)


def test_two_warps_in_one_sampling_are_one_after_the_other() -> None:
    images = draw_batch(1, 9, 9)[0].float()
    zero = torch.zeros(1)
    shift, turn = build_affine(angle=zero, shift_x=zero + 2), build_affine(angle=zero + math.pi / 2)
    torch.testing.assert_close(warp(images, compose(shift, turn)), warp(warp(images, shift), turn), rtol=0, atol=0.05)


def test_rotation_stays_within_its_angle() -> None:
    # a bright bar through the centre: how far its end comes up says the angle
    images = torch.zeros(400, 1, 41, 41, dtype=torch.uint8)
    images[:, :, 20, 21:] = 255
    turned, _ = build({"rotation": 20.0}, seeded())(images, torch.zeros(400, dtype=torch.int64))
    height = torch.arange(41) - 20.0
    column = turned[:, 0, :, 36]
    angles = torch.rad2deg(torch.atan2((column * height).sum(1) / column.sum(1), torch.tensor(16.0)))
    assert 18 < angles.abs().max() < 21
    assert abs(angles.mean()) < 3 * 20 / math.sqrt(3 * 400)
    assert abs((angles.abs() > 10).float().mean() - 0.5) < 0.1


def test_factors_of_one_change_no_colour_and_factors_of_zero_take_it_away() -> None:
    images = draw_batch(2)[0].float()
    one, zero = torch.ones(2), torch.zeros(2)
    for change in (
        colour.change_brightness,
        colour.change_contrast,
        colour.change_saturation,
        colour.change_sharpness,
    ):
        torch.testing.assert_close(change(images, one), images, rtol=0, atol=1e-3)
        assert change(images, one * 1.9).max() <= 255
    assert not colour.change_brightness(images, zero).any()
    assert colour.change_contrast(images, zero).flatten(1).std(1).max() < 1e-3
    grey = colour.change_saturation(images, zero)
    assert torch.equal(grey[:, 0], grey[:, 1])
    torch.testing.assert_close(grey[:, 2:], colour.to_grey(images))
    smooth = colour.change_sharpness(images, zero)
    assert torch.equal(smooth[:, :, 0], images[:, :, 0])
    patch = images[0, 0, 3:6, 3:6]
    torch.testing.assert_close(smooth[0, 0, 4, 4], (patch.sum() + 4 * patch[1, 1]) / 13)


def test_posterize_keeps_bits_and_solarize_inverts_the_bright() -> None:
    values = torch.arange(256.0).view(1, 1, 16, 16)
    kept = colour.posterize(values, torch.tensor([5.0]))
    assert torch.equal(kept.flatten().long(), torch.arange(256) & 0b11111000)
    assert torch.equal(colour.posterize(values, torch.tensor([8.0])), values)
    inverted = colour.solarize(values, torch.tensor([200.0])).flatten()
    assert torch.equal(inverted[:200], values.flatten()[:200])
    assert torch.equal(inverted[200:], 255 - values.flatten()[200:])
    assert torch.equal(colour.solarize(values, torch.tensor([256.0])), values)


@pytest.mark.parametrize("name", rand_augment.OPERATIONS)
def test_each_operation_changes_an_image_by_its_strength(name: str) -> None:
    # smooth, so that a larger change of place is a larger change of values
    ramp = torch.linspace(30, 220, 24)
    images = (ramp[:, None] * 0.6 + ramp[None, :] * 0.4).expand(2, 3, 24, 24).clone()
    images[:, 1] *= 0.5
    images[:, :, ::2, ::2] += 5
    images = images.round()
    position = rand_augment.OPERATIONS.index(name)
    distances = []
    for strength in (0.0, 0.4, 1.0):
        drawn = rand_augment.Drawn(torch.tensor([[position] * 2, [0] * 2]), torch.tensor([[strength, -strength]] * 2))
        changed = warp(images.clone(), rand_augment.compose_warps(drawn, 24, 24))
        changed = rand_augment.change_colours(changed, drawn)
        distances.append((changed - images).abs().mean(dim=(1, 2, 3)))
    assert distances[0].max() < 1e-3, "no strength, no change"
    if name == "identity":
        assert distances[2].max() < 1e-3
    else:
        assert (distances[1] > 0.05).all()
        assert (distances[2] > distances[1]).all()


def test_the_second_operation_follows_the_first() -> None:
    drawn = rand_augment.Drawn(
        torch.tensor([[rand_augment.OPERATIONS.index(name)] for name in ("translate_x", "rotate")]),
        torch.tensor([[-0.4], [0.5]]),
    )
    matrices = rand_augment.compose_warps(drawn, 8, 20)
    # the pixel right of the centre: back through the rotation by 15 degrees, then through the shift of 3.6 to the left
    source = matrices[0] @ torch.tensor([1.0, 0.0, 1.0])
    turned = [math.cos(math.radians(15)), math.sin(math.radians(15))]
    torch.testing.assert_close(source, torch.tensor([turned[0] - 3.6, turned[1], 1.0]))


def test_operations_and_signs_are_drawn_evenly() -> None:
    drawn = rand_augment.draw_operations(6000, 5, seeded())
    counts = torch.bincount(drawn.operations.flatten(), minlength=len(rand_augment.OPERATIONS))
    expected = 12000 / len(rand_augment.OPERATIONS)
    assert ((counts - expected) ** 2 / expected).sum() < 31.3, "chi-square of 11 degrees of freedom at 0.001"
    assert set(drawn.strengths.unique().tolist()) == {-0.5, 0.5}
    assert abs(drawn.strengths.mean()) < 0.02
    assert not torch.equal(drawn.operations[0], drawn.operations[1])


@pytest.mark.parametrize(("share", "side"), [(0.5, 6), (0.25, 3), (1.0, 12), (0.01, 0)])
@pytest.mark.parametrize("fill", [[10.2, 20.0, 29.8], None], ids=["data's mean", "batch's mean"])
def test_cutout_blanks_a_square_with_the_mean(share: float, side: int, fill: list[float] | None) -> None:
    images, labels = draw_batch(200, 12, 16)
    changed, _ = build({"cutout": share}, seeded(), fill)(images, labels)
    mean = torch.tensor([10, 20, 30]) if fill else images.float().mean(dim=(0, 2, 3)).round()
    blanked = (changed == mean.view(1, 3, 1, 1)).all(1)
    assert torch.equal(torch.where(blanked[:, None], images, changed), images), "all else is as it was"
    areas = blanked.flatten(1).sum(1)
    assert areas.max() <= side * side + 2, "and two pixels of that colour by chance"
    for mask in blanked if side else ():
        lines, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        if mask.sum() > 4:
            box = mask[lines.min() : lines.max() + 1, columns.min() : columns.max() + 1]
            assert box.all() or box.float().mean() < 0.6, "a box, unless another pixel has that colour"
    if side == 6:
        assert (areas == 36).float().mean() > 0.2, "whole ones"
        assert (areas < 36).float().mean() > 0.2, "and ones that are cut off"


def test_centres_of_boxes_are_anywhere_in_the_image() -> None:
    lines, columns = draw_boxes(4000, (8, 11), (1, 1), seeded())
    for covered, side in ((lines, 8), (columns, 11)):
        assert (covered.sum(1) == 1).all()
        counts = covered.sum(0)
        assert ((counts - 4000 / side) ** 2 / (4000 / side)).sum() < 29.6, "chi-square at 0.001"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_boxes_take_other_images_or_one_line(dtype: torch.dtype) -> None:
    images, others = (draw_batch(5, 6, 7, seed=seed)[0].to(dtype) for seed in (1, 2))
    lines, columns = draw_boxes(5, (6, 7), (3, 2), seeded())
    mask = (lines[:, :, None] & columns[:, None, :])[:, None]
    assert torch.equal(fill_boxes(images, lines, columns, others), torch.where(mask, others, images))
    pixel = torch.tensor([1, 2, 3], dtype=dtype)
    assert torch.equal(
        fill_boxes(images, lines, columns, pixel.repeat(7)), torch.where(mask, pixel.view(1, 3, 1, 1), images)
    )


def blended_batch(change: dict[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """The share of the other image by the pixels, and the targets, where each image is as bright as its class says."""
    labels = torch.arange(NUM_CLASSES)
    images = (labels * 50).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 9, 13)
    changed, targets = build(change, seeded(seed))(images.contiguous(memory_format=torch.channels_last), labels)
    return changed.float().mean(dim=(1, 2, 3)) / 50, targets


@pytest.mark.parametrize("change", [{"mixup": 0.7}, {"cutmix": 0.7}, {"mixup": 0.7, "cutmix": 0.7}], ids=str)
def test_targets_are_blended_as_the_images_are(change: dict[str, Any]) -> None:
    blended = 0
    for seed in range(30):
        brightness, targets = blended_batch(change, seed)
        # the mean brightness of two classes, by the shares that the targets have of them
        torch.testing.assert_close(brightness, targets @ torch.arange(float(NUM_CLASSES)), rtol=0, atol=1e-4)
        blended += bool((targets.max(1).values < 1).any())
        assert torch.allclose(targets.sum(0), torch.ones(NUM_CLASSES)), "the partners are a permutation"
    assert blended > 15


def test_with_mixup_and_cutmix_each_batch_takes_one() -> None:
    pasted = []
    for seed in range(60):
        images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
        images[1] = 200
        changed, targets = build({"mixup": 1.0, "cutmix": 1.0}, seeded(seed))(images, torch.tensor([0, 1]))
        if 0.05 < targets[0, 0] < 0.95:
            values = changed[0].unique()
            assert len(values) <= 2
            pasted.append(len(values) == 2)
    assert 0.2 < sum(pasted) / len(pasted) < 0.8


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.01, 10), st.integers(0, 2**32))
@settings(max_examples=60)
def test_the_share_of_a_cut_is_its_real_area(height: int, width: int, alpha: float, seed: int) -> None:
    lines, columns, share = draw_cut(alpha, (height, width), seeded(seed))
    area = (lines[0, :, None] & columns[0]).float().mean()
    torch.testing.assert_close(share, area, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 10.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    generator = seeded()
    shares = torch.stack([draw_share(alpha, generator) for _ in range(4000)])
    assert abs(shares.mean() - 0.5) < 0.025
    assert abs(shares.var() / (1 / (4 * (2 * alpha + 1))) - 1) < 0.1


@given(st.floats(1e-300, 10), st.integers(0, 2**32))
@settings(max_examples=60)
def test_a_share_is_a_fraction_for_any_alpha(alpha: float, seed: int) -> None:
    assert 0 <= draw_share(alpha, seeded(seed)) <= 1


def test_labels_are_smoothed_evenly_and_only_they_are() -> None:
    images, labels = draw_batch(6)
    generator = seeded()
    before = generator.get_state()
    same, targets = build({"label_smoothing": 0.2}, generator)(images, labels)
    assert same is images
    assert torch.equal(generator.get_state(), before)
    expected = torch.full((6, NUM_CLASSES), 0.04)
    expected[torch.arange(6), labels] = 0.84
    torch.testing.assert_close(targets, expected)


def test_a_loss_of_smoothed_targets_is_torchs() -> None:
    logits, (_, labels) = torch.randn(8, NUM_CLASSES, generator=seeded()), draw_batch(8)
    ours = torch.nn.functional.cross_entropy(logits, smooth_labels(labels, NUM_CLASSES, 0.1))
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))


def test_grey_images_lose_nothing_to_saturation() -> None:
    grey = draw_batch(3, channels=1)[0].float()
    assert torch.equal(colour.change_saturation(grey, torch.rand(3, generator=seeded())), grey)
