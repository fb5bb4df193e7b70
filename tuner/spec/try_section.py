"""The ``try`` section: configurations that are to be trained first, whole or in part."""

from tuner.spec.domain import describe, show_value
from tuner.spec.faults import Fault, enumerate_words, suggest_among
from tuner.spec.space import Config, Scalar, Space, is_inside
from tuner.spec.space_section import read_point
from tuner.spec.yaml_tree import ListNode, Node, show


def read_try(node: Node, space: Space | None, faults: list[Fault]) -> tuple[Config, ...]:
    """Read the configurations that are tried first.

    Parameters
    ----------
    node : Node
        A list of points of the space, nested as the space is, with constants; what is left out of one is open.
    space : Space or None
        What each has to lie in; None where that is not known yet, since it comes from a finished search.
    faults : list of Fault
        Gets what is wrong.

    Returns
    -------
    tuple of mappings from parameter names to values
        A parent before its children.
    """
    if not isinstance(node, ListNode):
        message = f"must be a list of configurations, found {show(node)}; write try: [{{learning_rate: 0.1}}]"
        faults.append(Fault(node.place, message))
        return ()
    configs: list[Config] = []
    for item in node.items:
        config: dict[str, Scalar] = {}
        wrong: list[str] = []
        for place, name, value in read_point(item, faults):
            misfit = None if space is None else explain_misfit(space, name, value)
            if misfit is None:
                config[name] = value
            elif not any(name.startswith(f"{parent}.") for parent in wrong):  # what hangs on it goes with it
                wrong.append(name)
                faults.append(Fault(place, misfit))
        configs.append(config)
    return tuple(configs)


def explain_misfit(space: Space, name: str, value: Scalar) -> str | None:
    """Say why a parameter cannot have a value in a space; None if it can."""
    parameters = {parameter.name: parameter for parameter in space.parameters}
    if name not in parameters:
        around, _, key = name.rpartition(".")
        homes = [_nest(parameter.name) for parameter in space.parameters if parameter.key == key]
        if homes:
            return f"is not in the space here; it belongs under {enumerate_words(homes)}"
        siblings = [p.key for p in space.parameters if p.name.rpartition(".")[0] == around]
        return (
            f"is not in the space{suggest_among(key, siblings) if siblings else ''}; add it there or take it out here"
        )
    distribution = parameters[name].distribution
    if is_inside(distribution, value):
        return None
    return f"must lie in the space, which has {describe(distribution)}, found {show_value(value)}"


def _nest(name: str) -> str:
    """Write a dotted name as the YAML nests it: ``architecture: {resnet: {depth: ...}}``."""
    first, *rest = name.split(".")
    return f"{first}: {''.join(f'{{{part}: ' for part in rest)}...{'}' * len(rest)}"
