"""NePS's PriorBand, by ask and tell.

Without priors, its default, it samples uniformly or near the best so far, under Hyperband. The spaces have no
conditions: every parameter is always drawn, and what does not exist is left out of the config. ifBO, of the same
library, is not here: it downloads its network's weights before it starts.
"""

import logging
import warnings

import neps
import torch
from neps.optimizers.algorithms import priorband as build_priorband

from search_quality.peers.driving import OwnRandomness, Run, RungPeer, choosing, num_steps
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Choice, Int, LogInt, LogUniform, Parameter, Space
from tuner.strategy.simulate import Policy


class PriorBandPeer(RungPeer):
    """PriorBand: it opens another bracket whenever the open ones wait."""

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space)
        logging.getLogger("neps").setLevel(logging.ERROR)
        self._randomness = OwnRandomness(seed)
        self._torch_state = torch.Generator().manual_seed(seed).get_state()
        names = {f"p{i}": parameter for i, parameter in enumerate(space.parameters) if not parameter.is_constant}
        self._names = {parameter.name: name for name, parameter in names.items()}
        domains = {name: domain(parameter) for name, parameter in names.items()}
        fidelity = {"epochs": neps.IntegerFidelity(1, MAX_EPOCHS)}
        self._optimizer = neps.AskAndTell(build_priorband(type("Peer", (neps.PipelineSpace,), domains | fidelity)()))

    def ask(self) -> Run | None:
        """Ask."""
        with self._randomness(), torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            torch.set_rng_state(self._torch_state)
            trial = self._optimizer.ask()
            self._torch_state = torch.get_rng_state()
        values = {name: trial.config[short] for name, short in self._names.items()}
        config = self._space.walk(lambda parameter: choosing(values, parameter))
        return Run(trial.id.partition("_rung_")[0], config, int(trial.config["epochs"]), trial)

    def tell(self, run: Run, value: float, *, has_diverged: bool) -> None:
        """Tell; NePS minimizes."""
        self._optimizer.tell(run.token, -value)


def domain(parameter: Parameter) -> object:
    """Return what one parameter is drawn from: options and steps by their indices."""
    distribution, steps = parameter.distribution, num_steps(parameter)
    if isinstance(distribution, Choice):
        return neps.Categorical(list(range(len(distribution.options))))
    if steps is not None:
        return neps.Integer(0, steps)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int | LogInt):
        return neps.Integer(low, high, log=isinstance(distribution, LogInt))
    return neps.Float(low, high, log=isinstance(distribution, LogUniform))


def priorband(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build PriorBand."""
    with warnings.catch_warnings(action="ignore"):
        return PriorBandPeer(problem.space, seed=seed)
