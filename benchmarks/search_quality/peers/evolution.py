"""DEHB, differential evolution under Hyperband, by ask and tell."""

import tempfile
import warnings

from dehb import DEHB

from search_quality.peers.configuration_space import config_of, configuration_space
from search_quality.peers.driving import OwnRandomness, Run, RungPeer
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Space
from tuner.strategy.simulate import Policy


class EvolutionPeer(RungPeer):
    """DEHB: a promoted trial goes on; what evolution makes at a higher fidelity starts anew, as DEHB has it."""

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space)
        self._randomness = OwnRandomness(seed)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # One worker, because more would start processes; asked by hand, it serves any number.
        self._optimizer = DEHB(
            cs=configuration_space(space, seed),
            min_fidelity=1,
            max_fidelity=MAX_EPOCHS,
            eta=3,
            seed=seed,
            n_workers=1,
            save_freq="end",
            log_level="ERROR",
            output_path=self._folder.name,
        )

    def ask(self) -> Run | None:
        """Ask; DEHB opens another bracket whenever the open ones wait."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            job = self._optimizer.ask()
        config = config_of(self._space, dict(job["config"]))
        return Run(int(job["config_id"]), config, round(job["fidelity"]), job)

    def tell(self, run: Run, value: float, *, has_diverged: bool) -> None:
        """Tell; DEHB minimizes."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            self._optimizer.tell(run.token, {"fitness": -value, "cost": run.until_epoch})


def dehb(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build DEHB."""
    with warnings.catch_warnings(action="ignore"):
        return EvolutionPeer(problem.space, seed=seed)
