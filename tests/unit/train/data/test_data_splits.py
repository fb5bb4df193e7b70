"""The digits, the split into training and validation, and the normalisation."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import DataError
from tuner.spec.search import DataSpec
from tuner.train.data import ImageSplits, Opening, load_splits, open_images, open_splits, prepare, prepare_test
from tuner.train.data.digits import find_digits, load_digits
from tuner.train.data.splits import measure_channels
from tuner.train.data.stratify import draw_first, draw_stratified, order_stratified

GOLDEN_DRAW = [3, 4, 6, 11, 12, 13]
GOLDEN_LABELS = [223, 223]

sizes = st.lists(st.integers(2, 40), min_size=1, max_size=8)
shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


@given(sizes, shares, seeds)
def test_every_class_is_on_both_sides_in_proportion(class_sizes: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    drawn = draw_stratified(labels, share, seed)
    assert (np.diff(drawn) > 0).all()
    counts = np.bincount(labels[drawn], minlength=len(class_sizes))
    assert (counts >= 1).all()
    assert (counts < class_sizes).all()
    exact = np.array(class_sizes) * share
    assert (np.abs(counts - exact) < 1 + 1e-9).all()
    if (exact >= 1).all() and (class_sizes - exact >= 1).all():
        assert len(drawn) == round(float(exact.sum()))


@given(seeds)
def test_the_draw_depends_on_the_seed_alone(seed: int) -> None:
    labels = np.arange(200) % 4
    np.testing.assert_array_equal(draw_stratified(labels, 0.3, seed), draw_stratified(labels, 0.3, seed))
    assert (draw_stratified(labels, 0.3, seed) != draw_stratified(labels, 0.3, seed + 1)).any()


def test_the_draw_is_the_same_everywhere() -> None:
    assert draw_stratified(np.arange(20) % 2, 0.3, 7).tolist() == GOLDEN_DRAW


def test_every_image_is_drawn_about_as_often() -> None:
    labels = np.arange(30) % 3
    counts = sum(np.bincount(draw_stratified(labels, 0.3, seed), minlength=30) for seed in range(1000))
    assert np.abs(counts - 300).max() < 75  # five standard deviations


@pytest.mark.parametrize(("labels", "share"), [([0, 0, 1], 0.5), ([], 0.5), ([0, 0], 0.0), ([0, 0], 1.0)])
def test_what_cannot_be_split_is_refused(labels: list[int], share: float) -> None:
    with pytest.raises(ValueError, match=r"share must be|needs at least 2"):
        draw_stratified(np.array(labels, dtype=np.int64), share, 0)


def test_mean_and_deviation_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 7, 5, 3), dtype=np.uint8)
    images[..., 1] = 93
    chosen = np.arange(3, 47)
    mean, std = measure_channels(images, chosen)
    np.testing.assert_allclose(mean, images[chosen].mean(axis=(0, 1, 2)), rtol=1e-14)
    expected = images[chosen].std(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(std, [expected[0], 1, expected[2]], rtol=1e-12)
    assert mean[1] == 93
    monkeypatch.setattr("tuner.train.data.splits.SUMMED_AT_ONCE", 1)
    np.testing.assert_array_equal(measure_channels(images, chosen), (mean, std))


def test_one_odd_pixel_is_no_constant_channel() -> None:
    images = np.zeros((1000, 8, 8, 1), np.uint8)
    images[0, 0, 0] = 1
    assert measure_channels(images, np.arange(1000))[1] == pytest.approx(np.sqrt(1 / 64_000 * (1 - 1 / 64_000)))


def test_digits_are_whole_and_in_range(digits: ImageSplits) -> None:
    assert (digits.image_shape, digits.num_classes) == ((8, 8, 1), 10)
    assert (len(digits.train), len(digits.validation)) == (1150, 288)
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert set(np.unique(digits.images)) <= set(np.rint(np.arange(17) * 255 / 16))
    everything = np.sort(np.concatenate([digits.train, digits.validation]))
    np.testing.assert_array_equal(everything, np.arange(1438))
    assert digits.class_names[int(digits.labels[0])] == str(digits.labels[0])


def test_digits_for_testing_are_apart_and_always_the_same(cache: Path, opening: Opening) -> None:
    with gzip.open(find_digits(), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    train = prepare(DataSpec(name="digits"), cache)
    test = prepare_test(DataSpec(name="digits"), cache, train, opening)
    assert (train.num_images, test.num_images) == (1438, 359)
    both = [open_images(train), open_images(test, opening)]
    rows = np.concatenate([np.c_[one.images.reshape(-1, 64), one.labels] for one in both])
    expected = np.c_[np.rint(table[:, :64] * 255 / 16), table[:, 64]]
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])
    assert [int(one.labels[:50].sum()) for one in both] == GOLDEN_LABELS


def test_digits_that_are_damaged_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(find_digits().read_bytes()[:2000])
    with pytest.raises(DataError, match=r"digits\.csv\.gz: cannot be read .* install scikit-learn again"):
        load_digits(path)
    path.write_bytes(gzip.compress(b"1,2,3\n"))
    with pytest.raises(DataError, match=r"1797 x 65 was expected, found \(3,\)"):
        load_digits(path)


def test_splits_depend_on_seed_and_share(cache: Path) -> None:
    prepared = prepare(DataSpec(name="digits"), cache)
    one, same, other = (open_splits(prepared, DataSpec(name="digits"), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.validation, same.validation)
    assert one.identity == same.identity
    assert (one.validation != other.validation).any()
    assert (
        len({one.identity, other.identity, open_splits(prepared, DataSpec(name="digits", validation=0.3), 1).identity})
        == 3
    )
    assert len(load_splits(DataSpec(name="digits", validation=0.5), cache).validation) == 719


def test_normalisation_is_by_the_training_images_alone(digits: ImageSplits) -> None:
    assert digits.mean == pytest.approx(digits.images[digits.train].mean(), rel=1e-12)
    assert digits.mean != digits.images.mean()


@given(sizes, shares, shares, seeds)
def test_a_smaller_fraction_is_part_of_a_larger(class_sizes: list[int], one: float, other: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    small, large = (draw_first(labels, share, seed) for share in sorted((one, other)))
    assert set(small) <= set(large)
    assert (np.diff(small) > 0).all()
    counts = np.bincount(labels[small], minlength=len(class_sizes))
    assert (counts >= 1).all()
    assert (np.abs(counts - np.array(class_sizes) * min(one, other)) <= 1).all()
    np.testing.assert_array_equal(draw_first(labels, 1.0, seed), np.arange(len(labels)))


@given(sizes, seeds)
def test_every_beginning_of_the_order_holds_the_classes_in_proportion(class_sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    order = order_stratified(labels, seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    counts = np.cumsum(np.eye(len(class_sizes))[labels[order]], axis=0)
    exact = np.arange(1, len(labels) + 1)[:, None] * np.array(class_sizes) / len(labels)
    assert np.abs(counts - exact).max() <= 1 + len(class_sizes) / 2


def test_the_order_is_random_within_and_between_classes() -> None:
    orders = [order_stratified(np.arange(30) % 3, seed) for seed in range(200)]
    assert len({tuple(order) for order in orders}) == 200
    firsts = np.bincount([order[0] for order in orders], minlength=30)
    assert firsts.max() < 25  # 6.7 expected


def test_a_fraction_changes_what_is_trained_on_alone(cache: Path) -> None:
    whole, half, tenth = (load_splits(DataSpec(name="digits", fraction=share), cache) for share in (1.0, 0.5, 0.1))
    np.testing.assert_array_equal(whole.validation, half.validation)
    assert set(tenth.train) < set(half.train) < set(whole.train)
    assert set(half.train).isdisjoint(half.validation)
    assert (len(half.train), len(tenth.train)) == (578, 120)
    assert len({whole.identity, half.identity, tenth.identity}) == 3
    assert tenth.mean == pytest.approx(tenth.images[tenth.train].mean(), rel=1e-12)
    assert tenth.mean != half.mean


def test_the_order_is_of_the_training_images_and_always_the_same(cache: Path) -> None:
    splits = load_splits(DataSpec(name="digits", fraction=0.5), cache)
    again = load_splits(DataSpec(name="digits", fraction=0.5), cache)
    assert splits.order is not None
    assert again.order is not None
    np.testing.assert_array_equal(np.sort(splits.order), splits.train)
    np.testing.assert_array_equal(splits.order, again.order)
    counts = np.bincount(splits.labels[splits.order[:50]], minlength=10)
    assert counts.min() >= 4
    assert splits.superclasses is None
