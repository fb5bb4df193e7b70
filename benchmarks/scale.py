"""What does a decision cost late in a very long search, with very many workers?

The default search of one stage on the made-up clock, with 1,000 workers and 10,000 trials, on a problem whose learning
curves are known; nothing is trained. All that the search does between two epochs is timed, suggestions and judgements
alike: the model is asked once after what came to a rung, by whichever of them is first. Compared is what decisions
took when 1,000 trials had ended or waited, so that some 2,000 had begun, and while the last ones began.

    python benchmarks/scale.py --output benchmarks/results/scale.json
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from search_quality.problems import MAX_EPOCHS, PROBLEMS

from tuner.spec.search import Stage
from tuner.strategy.simulate import Curve, Job, Search, simulate

WINDOW = 500  # trials
PROBLEM = "conditional"


class Timed:
    """A search, and what each of its decisions took."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self.num_begun = 0
        self.next_s: list[tuple[int, float]] = []
        self.report_s: list[tuple[int, float]] = []

    def next(self) -> Job | None:
        """Ask for a job, and note when and for how long."""
        began = time.perf_counter()
        job = self._search.next()
        self.next_s.append((self.num_begun, time.perf_counter() - began))
        self.num_begun += job is not None and not job.epochs_done
        return job

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Report an epoch, and note when and for how long."""
        began = time.perf_counter()
        goes_on = self._search.report(job, epoch, value)
        self.report_s.append((self.num_begun, time.perf_counter() - began))
        return goes_on

    def tell(self, around: int) -> dict[str, float]:
        """Return what decisions took while so many trials had begun."""
        near = range(around - WINDOW // 2, around + WINDOW // 2)
        asked = [seconds for begun, seconds in self.next_s if begun in near]
        told = [seconds for begun, seconds in self.report_s if begun in near]
        return {
            "next_ms": 1e3 * statistics.mean(asked),
            "report_ms": 1e3 * statistics.mean(told),
            "decision_ms": 1e3 * (sum(asked) + sum(told)) / len(told),
            "decisions_a_trial": len(told) / len(near),
            "trial_ms": 1e3 * (sum(asked) + sum(told)) / len(near),
        }


def main() -> None:
    """Run the search, and print what its decisions took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    problem = PROBLEMS[PROBLEM]()
    stage = Stage.model_validate({"name": "only", "trials": given.trials, "max_epochs": MAX_EPOCHS})
    timed = Timed(Search([stage], problem.space, seed=0))
    megabytes = []
    events = simulate(
        timed,
        lambda job: Curve(problem.curve(job.config).tolist(), seconds=1 + 0.01 * (job.key[1] % 7)),
        workers=given.workers,
        max_epochs=sys.maxsize,
    )
    for count, _ in enumerate(events, start=1):
        if timed.num_begun >= given.trials // 10 * (len(megabytes) + 1):
            megabytes.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))
            print(f"{timed.num_begun:6d} trials, {count:6d} epochs, {megabytes[-1]:.0f} MB", flush=True)
    early, late = (timed.tell(n) for n in (given.workers + given.trials // 10, given.trials - WINDOW // 2))
    found = {"workers": given.workers, "trials": given.trials, "early": early, "late": late, "peak_mb": megabytes}
    for name, when in (("early", early), ("late", late)):
        print(name, "  ".join(f"{key} {value:.3g}" for key, value in when.items()))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
