"""What does narrowing do to hyperparameters that matter, and to those that do not?

Simulated stages of up to 9 epochs on two workers, with a made-up error: the learning rate matters much, l2, dropout and
the decay matter little, three ranges and two choices do nothing. The best learning rate is inside its range or at its
upper end. Each stage is narrowed as `tuner.strategy.narrow` does it, and, to compare, with every range fitted to the
best fifth of the trials. For each sampler and number of trials:

- *changed*: the share of ranges that came out different, by what they do;
- *width*: of what was before, the share that is left;
- *holds*: how often the best value is still inside; for an end, how often the range goes on beyond it;
- *seems*: the share of ranges without effect that look important alone, and once more important ones are taken off;
- *drops*: the share of narrowings in which a choice without effect lost an option.

    python benchmarks/narrowing.py --seeds 20 --output benchmarks/results/narrowing.json
"""

import argparse
import json
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tuner.spec.search import Narrow, Stage
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Space, Uniform
from tuner.strategy.importance import find_importances
from tuner.strategy.interval import Range, find_limits, fit_range
from tuner.strategy.narrow import narrow
from tuner.strategy.ranking import rank_trials
from tuner.strategy.simulate import Curve, Search, simulate
from tuner.strategy.trial_view import TrialView

EPOCHS = 9
BEST = {"l2": 1e-4, "dropout": 0.25}
BEST_RATES = {"inside": 10**-1.5, "end": 1.0}
NOTHING = ("u0", "u1", "n0")
SPACE = Space(
    (
        Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)),
        Parameter("l2", LogUniform(low=1e-7, high=1e-2)),
        Parameter("dropout", Uniform(low=0.0, high=0.6)),
        Parameter("decay", Choice(options=("constant", "step", "cosine"))),
        Parameter("u0", Uniform(low=0.0, high=1.0)),
        Parameter("u1", LogUniform(low=1e-4, high=1.0)),
        Parameter("n0", Int(low=1, high=8)),
        Parameter("c0", Choice(options=("a", "b", "c"))),
        Parameter("c1", Choice(options=tuple("abcdef"))),
    )
)


def train(config: Config, best_rate: float) -> list[float]:
    """Return the accuracy after each epoch, the best so far."""
    error = 0.05 + 0.05 * math.log10(float(config["learning_rate"]) / best_rate) ** 2
    error += 0.006 * math.log10(float(config["l2"]) / BEST["l2"]) ** 2
    error += 0.3 * (float(config["dropout"]) - BEST["dropout"]) ** 2
    error += {"constant": 0.04, "step": 0.01, "cosine": 0.0}[str(config["decay"])]
    noise = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode())).normal(size=EPOCHS)
    values = 1 - error - (0.9 - error) * np.exp(-np.arange(1, EPOCHS + 1) / 2) + 0.01 * noise
    return list(np.maximum.accumulate(values))


def run(sampler: str, trials: int, best_rate: float, seed: int) -> Sequence[TrialView]:
    """Run a stage and return its trials."""
    stage = Stage.model_validate({"name": "only", "trials": trials, "max_epochs": EPOCHS, "sampler": sampler})
    views: dict[int, TrialView] = {}
    search = Search([stage], SPACE, seed=seed)
    # epochs last as long in all trials but for a little, which keeps workers out of step
    for event in simulate(
        search,
        lambda job: Curve(train(job.config, best_rate), 1 + 0.01 * (job.key[1] % 7)),
        workers=2,
        max_epochs=trials * EPOCHS,
    ):
        number = event.job.key[1]
        view = views.get(number) or TrialView(number, event.job.config, (), "complete")
        views[number] = view.extended(event.value)
    return list(views.values())


def measure_length(distribution: Range) -> float:
    """Return how long a range is, on its own axis."""
    low, high = distribution.low, distribution.high
    return math.log(high / low) if isinstance(distribution, LogUniform | LogInt) else high - low


def judge(found: dict[str, list[float]], rule: str, where: str, new: Space, best_rate: float) -> None:
    """Add what became of each range."""
    kinds = {"learning_rate": f"much, best {where}", "l2": "little", "dropout": "little"}
    best = BEST | ({"learning_rate": best_rate} if where == "inside" else {})
    for parameter in SPACE.parameters:
        before, after = parameter.distribution, new[parameter.name].distribution
        if isinstance(before, Choice) or isinstance(after, Choice):
            continue
        kind = kinds.get(parameter.name, "nothing")
        found[f"{rule}: changed, {kind}"].append(before != after)
        found[f"{rule}: width, {kind}"].append(measure_length(after) / measure_length(before))
        if parameter.name in best:
            found[f"{rule}: holds, {kind}"].append(after.low <= best[parameter.name] <= after.high)
        elif parameter.name == "learning_rate":
            found[f"{rule}: holds, {kind}"].append(after.high > before.high)


def fit_all(trials: Sequence[TrialView]) -> Space:
    """Fit every range to the best fifth of the trials, whatever it does."""
    ranked, how = rank_trials(trials), Narrow()
    best = ranked[: max(5, math.ceil(how.keep * len(ranked)))]
    fitted = {}
    for parameter in SPACE.parameters:
        name, before = parameter.name, parameter.distribution
        if not isinstance(before, Choice):
            values = [float(trial.config[name]) for trial in best]
            fitted[name] = fit_range(before, values, margin=how.margin, limits=find_limits(name, before)).range
    return SPACE.replace(fitted)


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "gp"])
    parser.add_argument("--trials", nargs="+", type=int, default=[12, 24, 48])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"seeds": given.seeds}
    for sampler in given.samplers:
        for num_trials in given.trials:
            found: dict[str, list[float]] = defaultdict(list)
            for seed in range(given.seeds):
                for where, best_rate in BEST_RATES.items():
                    trials = run(sampler, num_trials, best_rate, seed)
                    narrowing = narrow(SPACE, trials, Narrow())
                    judge(found, "narrow", where, narrowing.space, best_rate)
                    judge(found, "fit all", where, fit_all(trials), best_rate)
                    importances = find_importances(SPACE, rank_trials(trials), [])
                    found["seems, alone"] += [importances[name].is_clear_alone for name in NOTHING]
                    found["seems, others taken off"] += [importances[name].is_clear for name in NOTHING]
                    actions = {reason.name: reason.action for reason in narrowing.reasons}
                    found["narrow: drops"].append(actions["c0"] != "kept" or actions["c1"] != "kept")
            means = {name: round(float(np.mean(values)), 3) for name, values in sorted(found.items())}
            results[f"{sampler}, {num_trials} trials"] = means
            print(f"{sampler}, {num_trials} trials:", json.dumps(means, indent=1), flush=True)
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
