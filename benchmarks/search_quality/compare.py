"""Say what the comparison found: tables as Markdown, the goals, and charts.

    cd benchmarks
    python -m search_quality.compare results/search_quality.parquet --output ../docs/search_quality

Several files are taken together. The reference methods and the best peer stand for the others: the best peer is the
one beside which the method's own regrets are highest, as a geometric mean over problems. Methods are compared in pairs,
on the seeds that both have.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from search_quality.charts import Panel, draw_bars, draw_lines
from search_quality.estimates import (
    ALPHA,
    SMALLEST_RATIO,
    Difference,
    Estimate,
    Table,
    compare,
    estimate,
    estimate_ratio,
    find_best,
    mean_ranks,
)
from search_quality.measure import SHARES
from search_quality.problems import HELD_OUT
from search_quality.results import Results, Setting, choose, load

REFERENCES = ("random_asha", "optuna_search_asha")
BEST_PEER = "best peer"
GOALS = {
    50: {"optuna_search_asha": 0.25, "random_asha": 0.40, BEST_PEER: 0.75},
    12: {"random_asha": 0.85},
}
"""By budget: how large the geometric mean of regrets beside another method's may be."""


def tell_setting(setting: Setting, results: Results, method: str) -> Iterator[str]:
    """Yield the lines on one setting."""
    best_peer = find_best(results.last, method, results.peers)
    yield f"## Budget of {setting.budget} full trainings, {setting.workers} workers"
    yield ""
    yield from tell_overview(results, best_peer)
    yield from tell_tests(results.last, method, results.peers)
    for problem in results.last:
        yield from tell_problem(problem, results)


def tell_overview(results: Results, best_peer: str | None) -> Iterator[str]:
    """Yield a table of all methods: ranks, and regrets relative to the references'."""
    references = [name for name in (*REFERENCES, best_peer) if name in results.methods]
    held_out = choose(results.last, is_held_out=True)
    ranks = [mean_ranks(table) for table in (*results.regrets, held_out)]
    yield (
        f"Ranks are means over {len(results.last)} problems ({len(held_out)} of them held out) and seeds, after shares "
        "of the budget; then geometric means over problems of regret at the end, relative to a reference's, over all "
        f"problems and over those held out. Best peer: {best_peer or 'none'}."
    )
    yield ""
    relative = [f"/ {name}{among}" for name in dict.fromkeys(references) for among in ("", ", held out")]
    shares = [f"rank at {share:.0%}" for share in SHARES]
    yield from _rows([["method", *shares, "rank, held out", *relative, "problems", "seeds", "s a search"]])
    for name in results.methods:
        cells = [_number(rank.get(name), ".2f") for rank in ranks]
        for reference in dict.fromkeys(references):
            cells += [_ratio(estimate_ratio(table, name, reference)) for table in (results.last, held_out)]
        seeds = [len(methods[name]) for methods in results.last.values() if name in methods]
        yield from _rows(
            [[name, *cells, str(len(seeds)), _span(seeds), f"{results.seconds[name]:.1f}"]], has_header=False
        )
    yield ""


def tell_tests(table: Table, method: str, peers: Sequence[str]) -> Iterator[str]:
    """Yield where a method is worse than a peer, and where better, by more than chance."""
    tests = [compare(table, method, peer) for peer in peers]
    found = list(itertools.chain.from_iterable(tests))
    if not found:
        return
    yield (
        f"{method} beside each peer on each problem, by Wilcoxon's signed ranks over seeds, Holm-corrected over the "
        f"problems of each peer, at {ALPHA:.0%}:"
    )
    yield ""
    for sign, word in ((1, "worse"), (-1, "better")):
        own = [difference for difference in found if difference.is_significant and difference.sign == sign]
        yield f"- {word} in {len(own)} of {len(found)}" + (":" if own else "")
        for problem in dict.fromkeys(difference.problem for difference in own):
            yield f"    - {problem}: {_list([one for one in own if one.problem == problem], has_means=sign > 0)}"
    # if all n seeds agree p is 2 / 2^n, which is corrected for as many problems as the pair has
    few = sum(2 / 2**difference.num_seeds * len(own) > ALPHA for own in tests for difference in own)
    if few:
        yield f"- {few} of them have too few seeds for anything to be found"
    yield ""


def _list(differences: Sequence[Difference], *, has_means: bool) -> str:
    """Name the others, the best first."""
    ordered = sorted(differences, key=lambda one: one.other_mean)
    return ", ".join(
        f"{one.other} ({one.own_mean:.3g} beside {one.other_mean:.3g})" if has_means else one.other for one in ordered
    )


def tell_problem(problem: str, results: Results) -> Iterator[str]:
    """Yield a table of the regrets on one problem."""
    yield f"### {problem}{', held out' if problem in HELD_OUT else ''}: regret, with intervals of 95%"
    yield ""
    heads = [f"{name} at {share:.0%}" for name in ("mean", "median") for share in SHARES]
    yield from _rows([["method", "seeds", *heads]])
    own = results.last[problem]
    for name in sorted(own, key=lambda name: np.mean(list(own[name].values()))):
        samples = [list(table[problem][name].values()) for table in results.regrets]
        cells = [_interval(estimate(sample, statistic)) for statistic in (np.mean, np.median) for sample in samples]
        yield from _rows([[name, str(len(own[name])), *cells]], has_header=False)
    yield ""


def tell_goals(results: dict[Setting, Results], method: str) -> Iterator[str]:
    """Yield whether the goals are reached, a line for each."""
    yield "## Goals"
    yield ""
    for setting, found in results.items():
        place = f"budget {setting.budget}, {setting.workers} workers"
        best_peer = find_best(found.last, method, found.peers)
        for reference, largest in GOALS.get(setting.budget, {}).items():
            other = best_peer if reference == BEST_PEER else reference
            ratio = estimate_ratio(found.last, method, other or "")
            if ratio is None:
                yield f"- [ ] {place}: regret beside {reference}: no searches to compare"
                continue
            named = f"{reference} ({other})" if reference == BEST_PEER else reference
            apart = estimate_ratio(choose(found.last, is_held_out=True), method, other or "")
            yield (
                f"- {_box(ratio.value <= largest)} {place}: regret beside {named} {_interval(ratio)}, to be at most "
                f"{largest}; on held-out problems alone {_ratio(apart)}"
            )
        yield from _tell_rank(place, found, method)
    yield ""


def _tell_rank(place: str, found: Results, method: str) -> Iterator[str]:
    ranks = mean_ranks(found.last)
    if method not in ranks or len(ranks) == 1:
        yield f"- [ ] {place}: mean rank: no searches to compare"
        return
    rival = min((name for name in ranks if name != method), key=lambda name: ranks[name])
    yield (
        f"- {_box(ranks[method] < ranks[rival])} {place}: mean rank {ranks[method]:.2f}, to be the best; of the others "
        f"{rival} is the best with {ranks[rival]:.2f}"
    )


def draw(results: dict[Setting, Results], method: str, folder: Path) -> None:
    """Write the charts."""
    folder.mkdir(parents=True, exist_ok=True)
    rivals = [find_best(found.last, method, found.peers) for found in results.values()]
    highlighted = list(dict.fromkeys(name for name in (method, *REFERENCES, *rivals) if name))
    over_all = [Panel(_title(setting), _relate(found)) for setting, found in results.items()]
    note = f"Regret over the share of the budget: geometric mean over problems, {REFERENCES[0]} at the end being 1"
    (folder / "regret.svg").write_text(draw_lines(over_all, SHARES, highlighted, note), encoding="utf-8")
    ranks = [
        Panel(_title(setting), {name: (rank,) for name, rank in mean_ranks(found.last).items()})
        for setting, found in results.items()
    ]
    chart = draw_bars(ranks, highlighted, "Mean rank over problems and seeds, after the whole budget; 1 is the best")
    (folder / "ranks.svg").write_text(chart, encoding="utf-8")
    for setting, found in results.items():
        panels = [Panel(problem, _average(found, problem)) for problem in found.last]
        chart = draw_lines(panels, SHARES, highlighted, f"Mean regret over the share of a {_title(setting)}")
        (folder / f"regret_{setting.budget}_{setting.workers}.svg").write_text(chart, encoding="utf-8")


def _title(setting: Setting) -> str:
    return f"budget of {setting.budget} full trainings, {setting.workers} workers"


def _relate(found: Results) -> dict[str, list[float]]:
    """Return each method's regrets at each share, relative to the first reference's at the end."""
    lines = {}
    for name in found.methods:
        ratios = []
        for table in found.regrets:
            beside = {
                problem: {"own": methods.get(name, {}), "end": found.last[problem].get(REFERENCES[0], {})}
                for problem, methods in table.items()
            }
            ratios.append(estimate_ratio(beside, "own", "end"))
        if None not in ratios:
            lines[name] = [ratio.value for ratio in ratios]
    return lines


def _average(found: Results, problem: str) -> dict[str, list[float]]:
    names = found.last[problem]
    return {name: [float(np.mean(list(table[problem][name].values()))) for table in found.regrets] for name in names}


def _rows(rows: Sequence[Sequence[str]], *, has_header: bool = True) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |"
    if has_header:
        yield f"| --- |{' ---: |' * (len(rows[0]) - 1)}"


def _box(is_reached: bool) -> str:
    return "[x]" if is_reached else "[ ]"


def _number(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)


def _ratio(ratio: Estimate | None) -> str:
    return "none" if ratio is None else f"{ratio.value:.2f}"


def _interval(one: Estimate) -> str:
    return f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}-{max(numbers)}"


def main() -> None:
    """Print the tables, and draw the charts if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--method", default="tuner", help="which of ours is compared with the peers")
    parser.add_argument("--output", type=Path, help="the folder that charts go to")
    given = parser.parse_args()
    results = load(given.files, given.method)
    print("\n".join(tell_goals(results, given.method)))
    print(
        f"A problem's ratio counts as no smaller than {SMALLEST_RATIO} and no larger than {1 / SMALLEST_RATIO:.0f}. "
        f"Held-out problems: {', '.join(HELD_OUT)}.\n"
    )
    for setting, found in results.items():
        print("\n".join(tell_setting(setting, found, given.method)))
    if given.output is not None:
        draw(results, given.method, given.output)


if __name__ == "__main__":
    main()
