"""Learning curves for every point of a space, from a table of real trainings.

They are what an ensemble of small networks predicts, whose weights are kept so that every environment sees the same.
Networks, since of what was tried on held-out rows (forests, boosting, networks) they came closest, and since no method
that is compared models the space with them. Making them again, in an environment with scikit-learn:

    cd benchmarks
    python -m search_quality.curve_surrogate digits
"""

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from tuner.spec import load_spec
from tuner.spec.space import Config, Space
from tuner.strategy.encoding import Encoding

SURROGATES = ("curves", "digits")
"""By the names of their spaces and tables."""

DATA = Path(__file__).parents[1] / "data"
CHANCE = 0.1  # what is left of the accuracy where a training diverged
SMALLEST = 1e-3  # error that is told from none
NUM_NETWORKS, WIDTHS, NUM_LAYERS = 6, (64, 64), 3
NUM_FOLDS = 5
NUM_RANDOM, NUM_ROUNDS, NUM_KEPT, NUM_CHILDREN = 20_000, 40, 50, 20


def find_spec(name: str) -> Path:
    """Return where the search is written whose trials a table has."""
    return Path(__file__).with_name(f"{name}.yaml")


def find_table(name: str) -> Path:
    """Return where a table of real trainings is."""
    return DATA / f"{name}.parquet"


def find_weights(name: str) -> Path:
    """Return where the networks' weights are that were trained on a table."""
    return DATA / f"{name}_surrogate.npz"


@functools.cache
def load_space(name: str) -> Space:
    """Return the space that a table's configs lie in."""
    space = load_spec(find_spec(name)).space
    assert isinstance(space, Space)
    return space


def read_table(name: str) -> tuple[list[Config], np.ndarray]:
    """Read the configs and their best accuracies so far after each epoch, shape (rows, epochs)."""
    rows = pq.read_table(find_table(name)).to_pylist()
    curves = np.full((len(rows), max(len(row["val_accuracy"]) for row in rows)), CHANCE)
    for i, row in enumerate(rows):
        if row["state"] == "complete":
            curves[i] = row["val_accuracy"]
    return [json.loads(row["config"]) for row in rows], np.maximum.accumulate(curves, axis=1)


class Inputs:
    """Turns configs into what the networks see: a column for each option, and one for each range."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.encoding = Encoding(space)
        sizes = [getattr(p.distribution, "options", ()) for p in self.encoding.parameters]
        self._sizes = [
            len(options) if is_choice else 0 for options, is_choice in zip(sizes, self.encoding.is_choice, strict=True)
        ]

    def columns(self, points: np.ndarray) -> np.ndarray:
        """Return the columns of points of the unit cube."""
        parts = [
            np.eye(size)[np.minimum((column * size).astype(int), size - 1)] if size else 3 * (column[:, None] - 0.5)
            for column, size in zip(points.T, self._sizes, strict=True)
        ]
        return np.hstack(parts)


class CurveSurrogate:
    """The ensemble.

    Parameters
    ----------
    space : Space
        What the points lie in.
    weights : mapping from names to arrays
        The networks', and the mean and deviation of what they predict: the logarithm of the error.
    """

    def __init__(self, space: Space, weights: dict[str, np.ndarray]) -> None:
        self.inputs = Inputs(space)
        self._weights = weights

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Return the curve of each point of the unit cube, shape (points, epochs)."""
        columns = self.inputs.columns(points)
        total = np.zeros((len(points), self._weights["mean"].shape[0]))
        for i in range(NUM_NETWORKS):
            hidden = columns
            for layer in range(NUM_LAYERS):
                hidden = hidden @ self._weights[f"{i}.{layer}.weight"] + self._weights[f"{i}.{layer}.bias"]
                hidden = np.maximum(hidden, 0.0) if layer < NUM_LAYERS - 1 else hidden
            total += hidden / NUM_NETWORKS
        errors = np.exp(self._weights["mean"] + self._weights["deviation"] * total)
        return np.maximum.accumulate(1 - np.minimum(errors, 1.0), axis=1)

    def find_optimum(self) -> float:
        """Return the highest value at the end that a long search finds anywhere."""
        rng, encoding = np.random.default_rng(1), self.inputs.encoding
        points = encoding.snap(rng.random((NUM_RANDOM, len(encoding.parameters))))
        ends = self.predict(points)[:, -1]
        for step in np.geomspace(0.2, 0.002, NUM_ROUNDS):
            best = np.argsort(-ends)[:NUM_KEPT]
            near = np.repeat(points[best], NUM_CHILDREN, axis=0)
            drawn = rng.random(near.shape)
            near = np.where(rng.random(near.shape) < 0.15, drawn, near + step * rng.normal(size=near.shape))
            near = encoding.snap(np.clip(near, 0, 1 - 1e-9))
            points = np.vstack([points[best], near])
            ends = np.concatenate([ends[best], self.predict(near)[:, -1]])
        return float(ends.max())


@functools.cache
def load_surrogate(name: str) -> tuple[CurveSurrogate, float]:
    """Return the surrogate of a table, and its optimum."""
    surrogate = CurveSurrogate(load_space(name), dict(np.load(find_weights(name))))
    return surrogate, surrogate.find_optimum()


def train(columns: np.ndarray, curves: np.ndarray) -> dict[str, np.ndarray]:
    """Train the networks on what they are to see of points, and the points' curves."""
    from sklearn.neural_network import MLPRegressor  # which the peers' environments lack

    logs = np.log(np.maximum(1 - curves, SMALLEST))
    mean, deviation = logs.mean(axis=0), logs.std()
    weights = {"mean": mean, "deviation": np.array(deviation)}
    for i in range(NUM_NETWORKS):
        network = MLPRegressor(
            hidden_layer_sizes=WIDTHS, alpha=3.0, learning_rate_init=3e-3, max_iter=1000, random_state=i
        )
        network.fit(columns, (logs - mean) / deviation)
        for layer, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
            weights[f"{i}.{layer}.weight"] = weight.astype(np.float32)
            weights[f"{i}.{layer}.bias"] = bias.astype(np.float32)
    return weights


def predict_held_out(inputs: Inputs, points: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Predict the curves of each fifth of the points by networks trained on the others."""
    folds = np.random.default_rng(0).permutation(len(points)) % NUM_FOLDS
    predicted = np.zeros_like(curves)
    for fold in range(NUM_FOLDS):
        held_out = folds == fold
        weights = train(inputs.columns(points[~held_out]), curves[~held_out])
        predicted[held_out] = CurveSurrogate(inputs.space, weights).predict(points[held_out])
    return predicted


def main() -> None:
    """Train on folds to see how well held-out rows are predicted, then on all rows, and keep the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SURROGATES)
    name = parser.parse_args().name
    inputs = Inputs(load_space(name))
    configs, curves = read_table(name)
    points = inputs.encoding.encode(configs)
    ends, guesses = curves[:, -1], predict_held_out(inputs, points, curves)[:, -1]
    explained = 1 - ((ends - guesses) ** 2).sum() / ((ends - ends.mean()) ** 2).sum()
    print(
        f"{len(points)} rows; held-out: rank correlation {spearmanr(ends, guesses).statistic:.2f}, "
        f"variance explained {explained:.2f}"
    )
    np.savez_compressed(find_weights(name), **train(inputs.columns(points), curves))
    describe(name, curves)


def describe(name: str, curves: np.ndarray) -> None:
    """Print what the surrogate is like beside the table's curves."""
    surrogate, optimum = load_surrogate(name)
    drawn = np.random.default_rng(2).random((3000, len(surrogate.inputs.encoding.parameters)))
    shown = surrogate.predict(surrogate.inputs.encoding.snap(drawn))
    best = shown[:, -1] >= np.quantile(shown[:, -1], 0.8)
    for what, some in (("table", curves), ("surrogate", shown), ("its best fifth", shown[best])):
        ranks = [spearmanr(some[:, epoch - 1], some[:, -1]).statistic for epoch in (1, 3, 9)]
        print(f"{what}: rank correlation of epochs 1, 3, 9 with the last: {', '.join(f'{r:.2f}' for r in ranks)}")
    quantiles = np.quantile(shown[:, -1], [0.5, 0.9, 0.99])
    print(
        f"best {optimum:.4f} (table {curves[:, -1].max():.4f}); of random configs half below {quantiles[0]:.3f}, "
        f"a tenth above {quantiles[1]:.3f}, a hundredth above {quantiles[2]:.3f}"
    )


if __name__ == "__main__":
    main()
