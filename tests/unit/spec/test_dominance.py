import math

from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.dominance import find_front, is_dominated

NUMBERS = st.integers(0, 4).map(float) | st.just(math.nan)
RESULTS = st.integers(1, 3).flatmap(lambda size: st.lists(st.tuples(*[NUMBERS] * size), max_size=30))


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@given(RESULTS)
def test_the_front_is_what_nothing_dominates(results: list[tuple[float, ...]]) -> None:
    finite = [result for result in results if all(map(math.isfinite, result))]
    expected = [result in finite and not any(dominates(other, result) for other in finite) for result in results]
    assert find_front(results) == expected
    assert [not is_dominated(result, finite) for result in results] == expected


def test_a_result_does_not_dominate_its_equal() -> None:
    assert find_front([(1.0, 2.0), (1.0, 2.0), (1.0, 1.0)]) == [True, True, False]
    assert not is_dominated((1.0, 2.0), [(1.0, 2.0)])
