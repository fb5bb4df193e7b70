import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.strategy import gaussian_process
from tuner.strategy.gaussian_process import Hyperparameters, MultiRungProcess, fit, prior_means

NO_CHOICE = np.zeros(2, dtype=bool)
Floats = NDArray[np.float64]


def bowl(points: Floats) -> Floats:
    return 1 - 3 * (points[:, 0] - 0.6) ** 2 - (points[:, 1] - 0.3) ** 2


def see(low_rung: float, count: int = 40, noise: float = 0.0) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Half of the configs at the last rung of two, and all at the first, where values are so many times as large."""
    rng = np.random.default_rng(0)
    points = rng.random((count, 2))
    low = low_rung * bowl(points) + noise * rng.normal(size=count)
    high = bowl(points[: count // 2])
    rungs = np.repeat([0, 1], [count, count // 2])
    return np.vstack([points, points[: count // 2]]), rungs, np.concatenate([low, high])


def test_it_passes_through_what_was_measured_and_is_sure_there() -> None:
    points, rungs, values = see(0.5)
    fitted = fit(points, rungs, values, NO_CHOICE, prior_means(2, 2))
    process = MultiRungProcess(points, rungs, values, NO_CHOICE, fitted)
    mean, deviation = process.predict(points[-20:], 1)
    np.testing.assert_allclose(mean, values[-20:], atol=0.05)
    _, unsure = process.predict(np.array([[3.0, -2.0]]), 1)
    assert unsure[0] > 5 * deviation.max()


def test_what_is_exact_is_found_to_be() -> None:
    points = np.random.default_rng(0).random((60, 2))
    fitted = fit(points, np.zeros(60, dtype=np.int64), bowl(points), NO_CHOICE, prior_means(2, 1))
    assert fitted.noise[0] < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_a_few_values_at_the_last_rung_are_believed_until_they_turn_out_noisy(seed: int) -> None:
    """The first that came to the end are told apart, or what is known of the best would not be refined."""
    rng = np.random.default_rng(seed)

    def find_errors(count: int, noise: float) -> tuple[Hyperparameters, Floats]:
        points = rng.random((2 * count, 2))
        last = bowl(points[:count]) + noise * rng.normal(size=count)
        values = np.concatenate([bowl(points) + 0.3 * rng.normal(size=2 * count), last])
        rungs = np.repeat([0, 1], [2 * count, count])
        seen = np.vstack([points, points[:count]]), rungs, values, NO_CHOICE
        fitted = fit(*seen, prior_means(2, 2))
        return fitted, MultiRungProcess(*seen, fitted).predict(points[:count], 1)[0] - last

    _, errors = find_errors(6, 0.0)
    assert np.abs(errors).mean() < 0.012
    fitted, errors = find_errors(40, 0.2)
    assert 0.14 < fitted.noise[1] < 0.26
    assert np.abs(errors).mean() > 0.1


@pytest.mark.parametrize("low_rung", [0.5, -0.7])
def test_low_rungs_tell_of_the_last_as_they_are_related_to_it(low_rung: float) -> None:
    points, rungs, values = see(low_rung)
    fitted = fit(points, rungs, values, NO_CHOICE, prior_means(2, 2))
    covariance = fitted.covariance
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert correlation * np.sign(low_rung) > 0.8
    process = MultiRungProcess(points, rungs, values, NO_CHOICE, fitted)
    others = points[20:40]  # seen at the first rung alone
    mean, _ = process.predict(others, 1)
    assert np.abs(mean - bowl(others)).mean() < 0.05


def test_a_low_rung_of_noise_is_found_to_tell_little() -> None:
    points, rungs, values = see(0.0, count=60, noise=0.5)
    process = MultiRungProcess(
        points, rungs, values, NO_CHOICE, fit(points, rungs, values, NO_CHOICE, prior_means(2, 2))
    )
    with_noise, _ = process.predict(points[30:60], 1)
    assert np.abs(with_noise - bowl(points[30:60])).mean() < 0.15


def test_what_is_fitted_is_the_most_likely_found_by_following_a_right_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = []

    def check(lose, start, **options):  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(1)
        for _ in range(3):
            at = start + 0.3 * rng.normal(size=len(start))
            _, gradient = lose(at)
            steps = 1e-5 * np.eye(len(at))
            numeric = [(lose(at + step)[0] - lose(at - step)[0]) / 2e-5 for step in steps]
            np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)
            checked.append(at)
        return original(lose, start, **options)

    original = gaussian_process.minimize
    monkeypatch.setattr(gaussian_process, "minimize", check)
    points, rungs, values = see(0.5, noise=0.1)
    points[:, 1] = np.round(points[:, 1] * 2) / 2
    fit(points, rungs, values, np.array([False, True]), prior_means(2, 2))
    assert len(checked) == 3


def test_options_are_all_equally_far_apart() -> None:
    points = np.array([[0.25, 0.1], [0.25, 0.5], [0.25, 0.9]])
    given = Hyperparameters(np.array([0.5, 0.8]), np.eye(1), np.array([0.01]))
    is_choice = np.array([False, True])
    process = MultiRungProcess(points[:1], np.zeros(1, dtype=int), np.ones(1), is_choice, given)
    mean, deviation = process.predict(points, 0)
    assert mean[1] == mean[2] < mean[0]
    assert deviation[1] == deviation[2] > deviation[0]


def test_what_is_expected_is_the_textbooks() -> None:
    """Against the inverse of the whole covariance, with choices, options that were never seen, and three rungs."""
    rng = np.random.default_rng(0)
    is_choice = np.array([False, True, False, True])
    seen, asked = rng.random((30, 4)), rng.random((12, 4))
    for points, num_options in ((seen, 3), (asked, 4)):
        points[:, 1] = rng.integers(num_options, size=len(points)) / 4
        points[:, 3] = rng.integers(2, size=len(points)) / 2
    points, rungs = np.vstack([seen, seen[:10]]), np.repeat([0, 2], [30, 10])
    values = rng.normal(size=40)
    prior = prior_means(4, 3)
    process = MultiRungProcess(points, rungs, values, is_choice, prior)

    level = 1 + 0.25 * np.minimum.outer(range(3), range(3))

    def cover(one: Floats, ranks: NDArray[np.int64], other: Floats, others_ranks: NDArray[np.int64]) -> Floats:
        apart = np.where(is_choice, one[:, None] != other, one[:, None] - other) / prior.scales
        r = np.sqrt(5) * np.sqrt((apart**2).sum(axis=2))
        kernel = (1 + r + r**2 / 3) * np.exp(-r)
        return np.asarray(kernel * prior.covariance[np.ix_(ranks, others_ranks)] + level[np.ix_(ranks, others_ranks)])

    of_seen = cover(points, rungs, points, rungs) + np.diag(prior.noise[rungs] ** 2)
    ranks = np.tile([1, 2], 12)
    repeated = np.repeat(asked, 2, axis=0)
    weights = np.linalg.solve(of_seen, cover(points, rungs, repeated, ranks)).T
    means = weights @ values
    covariance = cover(repeated, ranks, repeated, ranks) - weights @ cover(points, rungs, repeated, ranks)

    found, found_covariances = process.predict_jointly(asked, np.array([1, 2]))
    np.testing.assert_allclose(found.ravel(), means, atol=1e-6)
    blocks = covariance.reshape(12, 2, 12, 2)[np.arange(12), :, np.arange(12)]
    np.testing.assert_allclose(found_covariances, blocks, atol=1e-6)
    last, deviations = process.predict(asked, 2)
    np.testing.assert_allclose(last, means[1::2], atol=1e-6)
    np.testing.assert_allclose(deviations**2, blocks[:, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(process.expect(asked, 2), last)
    np.testing.assert_allclose(process.expected, process.expect(points, 2), rtol=1e-12)
    nearest = process.find_nearest(asked, seen)
    kernel = cover(asked, np.zeros(12, dtype=int), seen, np.zeros(30, dtype=int))
    np.testing.assert_array_equal(nearest, kernel.argmax(axis=1))


@pytest.mark.parametrize("count", [3, 50, 150])
def test_what_is_assumed_is_as_if_it_had_been_measured(count: int) -> None:
    """Some of it of configs that were seen at a lower rung, as trials are that train; and one twice."""
    rng = np.random.default_rng(count)
    is_choice = np.array([False, False, True])
    points, asked = (np.column_stack([rng.random((n, 2)), rng.integers(3, size=n) / 3]) for n in (count, 9))
    rungs, values, prior = rng.integers(2, size=count), rng.normal(size=count), prior_means(3, 3)
    process = MultiRungProcess(points, rungs, values, is_choice, prior)
    before = process.predict(asked, 2)
    pending = np.vstack([points[:2], asked[:2], asked[:1]])
    expected = process.expect(pending, 2)

    found = process.assume(pending)
    told = MultiRungProcess(
        np.vstack([points, pending]),
        np.concatenate([rungs, np.full(5, 2)]),
        np.concatenate([values, expected]),
        is_choice,
        prior,
    )
    np.testing.assert_allclose(found.expected, told.expected, atol=1e-9)
    for rung in range(3):
        np.testing.assert_allclose(found.predict(asked, rung), told.predict(asked, rung), atol=1e-6)
    np.testing.assert_allclose(
        found.predict_jointly(asked, np.array([0, 2]))[1], told.predict_jointly(asked, np.array([0, 2]))[1], atol=1e-9
    )
    assert (found.predict(asked[:2], 2)[1] < 0.5 * before[1][:2]).all()
    np.testing.assert_array_equal(process.predict(asked, 2), before)
