"""A Gaussian process over configs and rungs: what is to be expected at the last rung from all that was seen at any."""

import copy
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotri, dtrtri
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SQRT5 = math.sqrt(5)
JITTER = 1e-8
LEVEL, DRIFT = 1.0, 0.25
"""Prior variances of the mean, and of its change from one rung to the next."""
RELATED = 0.7
"""Prior correlation of neighbouring rungs."""
NOISE, LAST_NOISE = 0.3, 0.03
"""Prior deviations of what is measured from what would be measured with other random numbers: anywhere, and at the last
of several rungs. With more of it there, trials near the best are long taken for about as good as each other."""
LEAST_NOISE = 1e-4
"""Were it larger, a best value that is exact would be measured again and again."""


@dataclass(frozen=True)
class Hyperparameters:
    """What a Gaussian process takes for granted.

    Attributes
    ----------
    scales : array, shape (num_parameters,)
        Over which distance in each coordinate values differ.
    mixing : array, shape (num_rungs, num_rungs)
        Lower triangular; times its transpose, the covariance of a config's values at the rungs.
    noise : array, shape (num_rungs,)
        Deviation of what is measured at each rung.
    """

    scales: Floats
    mixing: Floats
    noise: Floats

    @property
    def covariance(self) -> Floats:
        """Of a config's values at the rungs."""
        return self.mixing @ self.mixing.T


def prior_means(num_parameters: int, num_rungs: int, *, last_noise: float = LAST_NOISE) -> Hyperparameters:
    """Return the most likely hyperparameters before anything is seen.

    Parameters
    ----------
    num_parameters : int
        Coordinates of the unit cube.
    num_rungs : int, at least 1
        How many rungs there are.
    last_noise : float
        Deviation of what is measured at the last of several.
    """
    ranks = np.arange(num_rungs)
    covariance = RELATED ** np.abs(ranks[:, None] - ranks)
    return Hyperparameters(
        scales=np.full(num_parameters, 0.5 * math.sqrt(max(1.0, num_parameters / 3))),
        mixing=np.linalg.cholesky(covariance),
        noise=np.array([*[NOISE] * (num_rungs - 1), last_noise if num_rungs > 1 else NOISE]),
    )


SMALL = 64  # rows of a triangle that is inverted as it is
MAX_STEPS = 100  # of L-BFGS, from the prior's means
SCALE_SPREAD, MIXING_SPREAD, NOISE_SPREAD = 0.8, 0.5, 1.0
"""Prior deviations: of the logarithms of scales and noise, and of the entries of the mixing matrix."""


class MultiRungProcess:
    """A Gaussian process whose outputs are the values at the rungs of a stage.

    The covariance of two values is a Matern 5/2 kernel of the configs, with a scale for each coordinate, times a
    covariance of the rungs, which is learnt too: so low rungs count as much as they are worth, and against their sign
    where they lie. The means of the rungs are unknown, with a prior.

    Parameters
    ----------
    points : array, shape (n, num_parameters)
        Configs in the unit cube.
    rungs : int array, shape (n,)
        At which rung each was measured, counted from 0.
    values : array, shape (n,)
        What was measured there, in units in which 1 is a large difference.
    is_choice : bool array, shape (num_parameters,)
        Coordinates in which only being the same counts.
    hyperparameters : Hyperparameters
        Of the covariance.

    Attributes
    ----------
    expected : array, shape (n,)
        What the config of each row is expected to reach at the last rung.

    References
    ----------
    .. [1] Bonilla, Chai and Williams, "Multi-task Gaussian Process Prediction", NeurIPS 2007.
    .. [2] Swersky, Snoek and Adams, "Multi-Task Bayesian Optimization", NeurIPS 2013.
    """

    def __init__(
        self,
        points: Floats,
        rungs: Ints,
        values: Floats,
        is_choice: NDArray[np.bool_],
        hyperparameters: Hyperparameters,
    ) -> None:
        self.hyperparameters = hyperparameters
        self._is_choice = is_choice
        self._between = hyperparameters.covariance
        self._level = _cover_means(len(hyperparameters.noise))
        self._last = len(hyperparameters.noise) - 1
        kernel = self._compare(self._take_rows(points, rungs))
        factor = cholesky(self._cover(kernel[self._row_points], rungs), lower=True, check_finite=False)
        self._weights = cho_solve((factor, True), values, check_finite=False)
        self.expected = (self._relate(kernel, self._last) @ self._weights)[self._row_points]
        self._inverse = _invert(factor)  # a product with it takes a third of the time that solving takes

    def assume(self, points: Floats) -> "MultiRungProcess":
        """Return the process that has seen configs get, at the last rung, to just where they are expected to.

        It expects what this one does, and is surer of it.

        Parameters
        ----------
        points : array, shape (m, num_parameters)
            Configs.
        """
        assumed = copy.copy(self)
        rungs = np.full(len(points), self._last)
        assumed._take_rows(np.vstack([self._points, points]), np.concatenate([self._rungs, rungs]))
        cross = self._cross(points, self._last)
        assumed._weights = np.concatenate([self._weights, np.zeros(len(points))])
        assumed.expected = np.concatenate([self.expected, cross @ self._weights])
        explained = self._whiten(cross)
        kernel = _matern(_Distances(points, self._is_choice, self.hyperparameters.scales).measure(points))
        left = self._cover(kernel, rungs) - explained @ explained.T
        factor = cholesky(left, lower=True, check_finite=False)
        assumed._inverse = _join(self._inverse, explained, _invert(factor))
        return assumed

    def _take_rows(self, points: Floats, rungs: Ints) -> Floats:
        """Compare with these from now on; return their different points."""
        # a config has a row at each rung that it came to, and its distances to others are the same at all of them
        unique, self._row_points = _find_unique(points)
        self._distances = _Distances(unique, self._is_choice, self.hyperparameters.scales)
        self._points, self._rungs = points, rungs
        return unique

    def _cover(self, kernel: Floats, rungs: Ints) -> Floats:
        """Turn the kernel of configs, in place, into the covariance of what is measured of them at rungs."""
        kernel *= _spread(self._between, rungs)
        kernel += _spread(self._level, rungs)
        kernel[np.diag_indices_from(kernel)] += self.hyperparameters.noise[rungs] ** 2 + JITTER
        return kernel

    def predict(self, points: Floats, rung: int) -> tuple[Floats, Floats]:
        """Say what is to be expected at a rung.

        Parameters
        ----------
        points : array, shape (m, num_parameters)
            Configs.
        rung : int
            Counted from 0.

        Returns
        -------
        (array, array), shapes (m,)
            Mean and deviation of the value without noise.
        """
        cross = self._cross(points, rung)
        means = cross @ self._weights
        explained = self._whiten(cross)
        variance = self._between[rung, rung] + self._level[rung, rung] - np.einsum("ij,ij->i", explained, explained)
        return means, np.sqrt(np.maximum(variance, 1e-12))

    def expect(self, points: Floats, rung: int) -> Floats:
        """Return the means alone of what `predict` says, which are found far quicker."""
        return np.asarray(self._cross(points, rung) @ self._weights)

    def find_nearest(self, points: Floats, others: Floats) -> NDArray[np.intp]:
        """Return for each point which of some others is nearest to it, in units of the scales."""
        distances = _Distances(others, self._is_choice, self.hyperparameters.scales).measure(points)
        return np.asarray(distances.argmin(axis=1))

    def predict_jointly(self, points: Floats, rungs: Ints) -> tuple[Floats, Floats]:
        """Say what is to be expected of each config at several rungs together.

        Parameters
        ----------
        points : array, shape (m, num_parameters)
            Configs.
        rungs : int array, shape (k,)
            Counted from 0.

        Returns
        -------
        (array, array), shapes (m, k) and (m, k, k)
            Means and covariances of a config's values without noise.
        """
        prior = self._between + self._level
        cross = self._compare(points)[:, None, :] * self._between[rungs][:, self._rungs]
        cross += self._level[rungs][:, self._rungs]
        means = cross @ self._weights
        explained = self._whiten(cross.reshape(-1, len(self._rungs))).reshape(cross.shape)
        return means, prior[np.ix_(rungs, rungs)] - explained @ explained.transpose(0, 2, 1)

    def _cross(self, points: Floats, rung: int) -> Floats:
        """Return the covariance of the values of points at a rung with each row's."""
        return self._relate(self._compare(points), rung)

    def _relate(self, kernel: Floats, rung: int) -> Floats:
        """Turn a kernel of points and each row's, in place, into the covariance of their values at a rung with each."""
        kernel *= self._between[rung, self._rungs]
        kernel += self._level[rung, self._rungs]
        return kernel

    def _whiten(self, cross: Floats) -> Floats:
        """Divide covariances by the factor, in place: the square of that is what the rows explain of a variance."""
        return np.asarray(dtrmm(1.0, self._inverse, cross.T, lower=1, overwrite_b=1).T)

    def _compare(self, points: Floats) -> Floats:
        """Return the kernel of points and those of each row."""
        return _matern(self._distances.measure(points)).take(self._row_points, axis=1)


def fit(
    points: Floats, rungs: Ints, values: Floats, is_choice: NDArray[np.bool_], prior: Hyperparameters
) -> Hyperparameters:
    """Find the hyperparameters under which what was seen is most likely, given a prior.

    Parameters
    ----------
    points, rungs, values, is_choice
        As for `MultiRungProcess`.
    prior : Hyperparameters
        The most likely ones beforehand, see `prior_means`.
    """
    num_parameters, num_rungs = points.shape[1], len(prior.noise)
    lower = np.tril_indices(num_rungs)
    centre = np.concatenate([np.log(prior.scales), prior.mixing[lower], np.log(prior.noise)])
    spread = np.concatenate(
        [
            np.full(num_parameters, SCALE_SPREAD),
            np.full(len(lower[0]), MIXING_SPREAD),
            np.full(num_rungs, NOISE_SPREAD),
        ]
    )
    apart = _measure_distances(points, points, is_choice)  # (num_parameters, n, n)
    level = _spread(_cover_means(num_rungs), rungs)
    one_hot = np.eye(num_rungs)[rungs]

    def unpack(vector: Floats) -> Hyperparameters:
        mixing = np.zeros((num_rungs, num_rungs))
        mixing[lower] = vector[num_parameters:-num_rungs]
        return Hyperparameters(np.exp(vector[:num_parameters]), mixing, np.exp(vector[-num_rungs:]))

    def lose(vector: Floats) -> tuple[float, Floats]:
        given = unpack(vector)
        weights = given.scales**-2
        distance = np.sqrt(np.maximum(np.tensordot(weights, apart, axes=1), 0.0))
        decay = np.exp(-SQRT5 * distance)
        kernel = (1 + SQRT5 * distance + 5 / 3 * distance**2) * decay
        between = _spread(given.covariance, rungs)
        covariance = kernel * between + level
        covariance[np.diag_indices_from(covariance)] += given.noise[rungs] ** 2 + JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(vector)
        alpha = cho_solve((factor, True), values, check_finite=False)
        inverse = dpotri(factor, lower=1)[0]
        inverse += np.tril(inverse, -1).T  # of which the lower half was found
        pull = (np.outer(alpha, alpha) - inverse) / 2  # the likelihood's gradient by the covariance
        by_distance = pull * between * (5 / 3) * (1 + SQRT5 * distance) * decay
        by_between = one_hot.T @ (pull * kernel) @ one_hot
        by_noise = one_hot.T @ np.diagonal(pull) * 2 * given.noise**2
        gradient = np.concatenate(
            [
                np.tensordot(apart, by_distance, axes=2) * weights,
                (2 * by_between @ given.mixing)[lower],
                by_noise,
            ]
        )
        off = (vector - centre) / spread
        likelihood = -values @ alpha / 2 - np.log(np.diagonal(factor)).sum()
        return float(off @ off / 2 - likelihood), off / spread - gradient

    bounds = np.column_stack([centre - 5 * spread, centre + 5 * spread])
    bounds[-num_rungs:, 0] = math.log(LEAST_NOISE)
    found = minimize(lose, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
    return unpack(found.x)


def _invert(factor: Floats) -> Floats:
    """Invert a lower triangle, by halves: that takes half of the time that LAPACK takes."""
    if len(factor) <= SMALL:
        return np.asarray(dtrtri(factor, lower=1)[0])
    half = len(factor) // 2
    return _join(_invert(factor[:half, :half]), factor[half:, :half], _invert(factor[half:, half:]))


def _join(first: Floats, below: Floats, second: Floats) -> Floats:
    """Return the inverse of a lower triangle, given those of its first and last part and what is below the first."""
    size = len(first)
    whole = np.zeros((size + len(second),) * 2, order="F")
    whole[:size, :size] = first
    whole[size:, :size] = -second @ (below @ first)
    whole[size:, size:] = second
    return whole


def _find_unique(points: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return the different points, and which of them each is."""
    indices: dict[bytes, int] = {}
    which = np.array([indices.setdefault(point.tobytes(), len(indices)) for point in points])
    first = np.unique(which, return_index=True)[1]
    return points[first], which


def _cover_means(num_rungs: int) -> Floats:
    """Return the covariance of the rungs' unknown means: neighbours differ less than those far apart."""
    ranks = np.arange(num_rungs)
    return LEVEL + DRIFT * np.minimum.outer(ranks, ranks)


def _spread(between: Floats, rungs: Ints) -> Floats:
    """Return for each two of some rows what there is between their rungs."""
    return between.take(rungs, axis=0).take(rungs, axis=1)


def _measure_distances(points: Floats, others: Floats, is_choice: NDArray[np.bool_]) -> Floats:
    """Return squared distances in each coordinate; of choices, whether they differ."""
    apart = (points.T[:, :, None] - others.T[:, None, :]) ** 2
    apart[is_choice] = apart[is_choice] > 0
    return apart


class _Distances:
    """Distances to given points over all coordinates, each in units of its scale."""

    def __init__(self, others: Floats, is_choice: NDArray[np.bool_], scales: Floats) -> None:
        self._is_choice = is_choice
        self._scales = scales
        self._options = [np.unique(column) for column in others.T[is_choice]]
        self._others, self._squares = self._unfold(others)

    def measure(self, points: Floats) -> Floats:
        """Return the distances of other points, shape (len(points), len(others))."""
        unfolded, squares = self._unfold(points)
        apart = (-2 * unfolded) @ self._others.T
        apart += squares[:, None]
        apart += self._squares
        np.maximum(apart, 0.0, out=apart)
        return np.sqrt(apart, out=apart)

    def _unfold(self, points: Floats) -> tuple[Floats, Floats]:
        """Give each option a coordinate of its own, so that one product of matrices compares all; and sum squares."""
        numbers = points[:, ~self._is_choice] / self._scales[~self._is_choice]
        unfolded, squares = [numbers], (numbers**2).sum(axis=1)
        choices = zip(points.T[self._is_choice], self._options, self._scales[self._is_choice], strict=True)
        for column, options, scale in choices:
            unfolded.append((column[:, None] == options) / (math.sqrt(2) * scale))
            squares += 1 / (2 * scale**2)  # of an option that none of the others has, too
        return np.hstack(unfolded), squares


def _matern(distance: Floats) -> Floats:
    """Turn distances into the Matern 5/2 kernel of them, in place."""
    kernel = 5 / 3 * distance
    kernel += SQRT5
    kernel *= distance
    kernel += 1
    distance *= -SQRT5
    kernel *= np.exp(distance, out=distance)
    return kernel
