"""What is better where several things count: the Pareto front, from whose members none is better in everything."""

import math
from collections.abc import Iterable, Sequence

Result = Sequence[float]
"""What a trial reached: a number an objective, larger is better."""


def is_dominated(result: Result, others: Iterable[Result]) -> bool:
    """Tell whether some other result is as good in every objective and better in one; one that is not finite always is.

    Parameters
    ----------
    result : sequence of float, shape (num_objectives,)
        Larger is better.
    others : iterable of such
        It may be among them.
    """
    if not all(map(math.isfinite, result)):
        return True
    return any(
        all(theirs >= own for theirs, own in zip(other, result, strict=True)) and tuple(other) != tuple(result)
        for other in others
    )


def find_front(results: Sequence[Result]) -> list[bool]:
    """Mark the results that no other dominates.

    Parameters
    ----------
    results : sequence of sequences of float, shape (num_results, num_objectives)
        Larger is better; one that is not finite is on no front.

    Returns
    -------
    list of bool, shape (num_results,)
        True on the front. Of equal results all are on it, or none.
    """
    front: list[int] = []
    # whatever dominates a result comes before it in this order, and something on the front does so too
    finite = [i for i, result in enumerate(results) if all(map(math.isfinite, result))]
    for i in sorted(finite, key=lambda i: tuple(results[i]), reverse=True):
        if not is_dominated(results[i], (results[member] for member in front)):
            front.append(i)
    members = set(front)
    return [i in members for i in range(len(results))]
