"""The ranges that a hyperparameter can be drawn from: from YAML to a checked distribution."""

from fractions import Fraction

from tuner.spec.domain import Domain, show_value
from tuner.spec.faults import Fault, enumerate_words
from tuner.spec.space import Int, LogInt, LogUniform, Uniform
from tuner.spec.yaml_tree import ListNode, Node, show

RANGES: dict[str, type[Uniform | LogUniform | Int | LogInt]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "int": Int,
    "logint": LogInt,
}
STEPPED = ("uniform", "int")
_FITTING = {"float": ("uniform", "loguniform"), "int": ("int", "logint")}
_POSITIVE = {"loguniform": "1e-4", "logint": "1"}


def find_fitting(domain: Domain) -> tuple[str, ...]:
    """Return the ranges that suit a field: none for words, booleans and numbers that are named one by one."""
    return () if domain.kind is None or domain.words else _FITTING.get(domain.kind, ())


def read_range(
    kind: str, node: Node, step_node: Node | None, domain: Domain, faults: list[Fault]
) -> Uniform | LogUniform | Int | LogInt | None:
    """Read ``kind: [low, high]`` and the step beside it.

    Parameters
    ----------
    kind : str
        One of RANGES.
    node, step_node : Node, and Node or None
        The ends, and the step where there is one.
    domain : Domain
        What the hyperparameter may be: both ends must lie within.
    faults : list of Fault
        Gets what is wrong.

    Returns
    -------
    Distribution or None
        None where a fault was found.
    """
    fitting = find_fitting(domain)
    if kind not in fitting:
        advice = f"write {enumerate_words(fitting)}" if fitting else "write choice: [a, b]"
        faults.append(Fault(node.place, f"{kind} does not fit {domain.describe()}, found {show(node)}; {advice}"))
        return None
    ends = _read_ends(kind, node, domain, faults)
    step = None if step_node is None else _read_step(step_node, domain, faults)
    if ends is None or (step is None and step_node is not None):
        return None
    given = {"low": ends[0], "high": ends[1]}
    if step is not None:
        # As written, where 0.3 is three times 0.1: the binary numbers nearby are not.
        if (Fraction(str(ends[1])) - Fraction(str(ends[0]))) % Fraction(str(step)):
            assert step_node is not None
            found = f"the step {show(step_node)} does not divide the range {show(node)}"
            faults.append(Fault(step_node.place, f"{found}; choose one that leads from low to high"))
            return None
        given["step"] = step
    return RANGES[kind].model_validate(given)


def _read_ends(kind: str, node: Node, domain: Domain, faults: list[Fault]) -> tuple[float, float] | None:
    if not isinstance(node, ListNode) or len(node.items) != 2:
        message = f"must be two numbers, found {show(node)}; write {kind}: [low, high]"
        faults.append(Fault(node.place, message))
        return None
    number = Domain(kind=domain.kind)  # without the bounds, which are told better for the range as a whole
    low, high = (number.read(item, faults) for item in node.items)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    if problem := _find_problem(kind, low, high, domain):
        faults.append(Fault(node.place, f"{problem[0]}, found {show(node)}; {problem[1]}"))
        return None
    return low, high


def _find_problem(kind: str, low: float, high: float, domain: Domain) -> tuple[str, str] | None:
    """Say what a range must be and what to do, if it is not right."""
    if kind in _POSITIVE and min(low, high) <= 0:
        return "low must be above 0", f"write a positive low end, such as {_POSITIVE[kind]}"
    if low == high:
        return "low must be below high", f"write the constant {show_value(low)}"
    if low > high:
        return "low must be below high", f"write {kind}: [{show_value(high)}, {show_value(low)}]"
    for end, value in (("low", low), ("high", high)):
        if not domain.is_in_bounds(value):
            return f"{end} must be {domain.describe()}", "keep both ends within that"
    return None


def _read_step(node: Node, domain: Domain, faults: list[Fault]) -> float | None:
    step = Domain(kind=domain.kind, low=0, is_low_open=True).read(node, faults)
    assert step is None or isinstance(step, int | float)
    return step
