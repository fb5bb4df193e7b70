import math

import numpy as np
import pytest
from driver import SPACE
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.space import Config
from tuner.strategy import landscape as landscape_module
from tuner.strategy.draws import draw
from tuner.strategy.landscape import Landscape


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 40))
def test_skills_are_shares_until_a_training_diverges_for_good(seed: int, size: float, num_epochs: int) -> None:
    rng = np.random.default_rng(seed)
    skills = Landscape(SPACE, rng).draw_skills(draw(SPACE, rng), size, num_epochs)
    assert skills.shape == (num_epochs,)
    diverged = np.isnan(skills)
    assert (np.diff(diverged.astype(int)) >= 0).all()
    assert ((skills[~diverged] >= 0) & (skills[~diverged] <= 1)).all()


def test_a_larger_network_gets_further_and_more_epochs_help_whatever_is_drawn() -> None:
    gains, growths = [], []
    for seed in range(40):
        config = draw(SPACE, np.random.default_rng(seed)) | {"learning_rate": 0.01}
        small, large = (
            Landscape(SPACE, np.random.default_rng(seed)).draw_skills(config, size, 27) for size in (0.0, 1.0)
        )
        gains.append(large[-5:].mean() - small[-5:].mean())
        growths.append(large[-5:].mean() - large[0])
    assert min(gains) > -0.02
    assert np.mean(gains) > 0.02
    assert np.mean(growths) > 0.1


def test_what_can_be_reached_is_unknown_and_large_learning_rates_diverge_in_some_guesses() -> None:
    configs = [draw(SPACE, np.random.default_rng(seed)) | {"learning_rate": 0.01} for seed in range(40)]
    largest = configs[0] | {"learning_rate": max(config["learning_rate"] for config in map(draw_one, range(200)))}
    reached, diverged = [], []
    for seed in range(40):
        landscape = Landscape(SPACE, np.random.default_rng(seed))
        reached.append(max(np.nanmax(landscape.draw_skills(config, 1.0, 27)) for config in configs))
        diverged.append(bool(np.isnan(landscape.draw_skills(largest, 1.0, 27)).any()))
    assert max(reached) - min(reached) > 0.3
    assert 0.2 < np.mean(diverged) < 0.8


def test_nothing_gets_further_than_the_best_that_a_guess_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landscape_module, "TOP", (0.2, 0.2))
    monkeypatch.setattr(landscape_module, "SLOPE", (0.01, 0.01))
    skills = Landscape(SPACE, np.random.default_rng(0)).draw_skills(draw_one(1) | {"learning_rate": 0.01}, 1.0, 27)
    assert 0.15 < skills.max() < 0.2 + 5 * landscape_module.NOISE


def draw_one(seed: int) -> Config:
    return draw(SPACE, np.random.default_rng(seed))


def test_one_guess_differs_from_another_in_what_is_good() -> None:
    rng = np.random.default_rng(0)
    configs = [draw(SPACE, rng) for _ in range(60)]
    rankings = []
    for seed in range(6):
        landscape = Landscape(SPACE, np.random.default_rng(seed))
        last = [landscape.draw_skills(config, 0.5, 9)[-1] for config in configs]
        rankings.append(np.argsort(np.argsort([-1.0 if math.isnan(one) else one for one in last])))
    correlations = np.corrcoef(rankings)[np.triu_indices(6, 1)]
    assert abs(correlations.mean()) < 0.4
    assert correlations.min() < 0.3
