"""The ``stages`` section: one search after the other, and how each is narrowed from the one before."""

import re
from collections.abc import Sequence

from tuner.spec.faults import Fault, enumerate_words
from tuner.spec.search import AUTO_MAX_EPOCHS, Halving, Narrow, Objective, Stage, StageAsWritten
from tuner.spec.sections import Record, read_section
from tuner.spec.yaml_tree import MapNode, Node, ScalarNode, printable, show

STAGE_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


def read_stages(node: Node, faults: list[Fault], *, has_predecessor: bool) -> tuple[Stage, ...] | None:
    """Read the stages in their order.

    Parameters
    ----------
    node : Node
        A mapping from names to stages.
    faults : list of Fault
        Gets what is wrong.
    has_predecessor : bool
        Whether the first stage too has one before it to narrow: the space comes from a finished search.
    """
    if not isinstance(node, MapNode) or not node.entries:
        message = "must be a mapping from a stage's name to its settings"
        faults.append(Fault(node.place, f"{message}, found {show(node)}; write coarse: {{trials: 48, max_epochs: 9}}"))
        return None
    stages: list[Stage | None] = []
    for name, stage_node in node.entries.items():
        if not re.fullmatch(STAGE_PATTERN, name):
            message = f"a stage's name has letters, digits, - and _, at most 64, found {printable(name)}"
            faults.append(Fault(node.keys[name], message))
        can_narrow = has_predecessor or bool(stages)
        stages.append(_read_stage(name, stage_node, faults, can_narrow=can_narrow))
    return tuple(stage for stage in stages if stage is not None) if None not in stages else None


def _read_stage(name: str, node: Node, faults: list[Fault], *, can_narrow: bool) -> Stage | None:
    readers = {"halving": _read_halving, "narrow": _read_narrow}
    num_faults = len(faults)
    values = read_section(node, StageAsWritten, faults, readers, hidden=("name",))
    if not isinstance(node, MapNode):
        return None
    if values.setdefault("narrow", Narrow() if can_narrow else None) is not None and not can_narrow:
        message = "the first stage has none before it to narrow; take it out, or write space: {from: SEARCH}"
        faults.append(Fault(node.keys["narrow"], message))
    if values.get("max_epochs") == "auto":
        values["max_epochs"] = AUTO_MAX_EPOCHS
        values["halving"] = _let_grow(values.get("halving", Halving()), node.entries["max_epochs"], faults)
    halving, max_epochs = values.get("halving"), values.get("max_epochs")
    if halving is not None and halving.grow and (halving.rule not in {"auto", "rank"} or halving.type == "stopping"):
        place = node.entries.get("halving", node).place
        faults.append(Fault(place, "a last rung that grows needs rule rank and type promotion; leave those two out"))
    if halving is not None and max_epochs is not None and halving.min_epochs > max_epochs:
        halving_node = node.entries["halving"]
        assert isinstance(halving_node, MapNode)
        message = f"must be at most max_epochs, which is {max_epochs}, found {halving.min_epochs}"
        place = halving_node.entries["min_epochs"].place
        faults.append(Fault(place, f"{message}; write a smaller one, or halving: none"))
    return Stage(name=name, **values) if len(faults) == num_faults else None


def _let_grow(halving: Halving | None, node: Node, faults: list[Fault]) -> Halving | None:
    """Let the last rung grow, as ``max_epochs: auto`` asks."""
    if halving is None:
        faults.append(Fault(node.place, "auto needs halving; write a number, or take halving: none out"))
        return None
    return halving.model_copy(update={"grow": True})


def find_waste(node: Node, stages: Sequence[Stage], objective: Objective) -> list[Fault]:
    """Warn of what stages ask for in vain.

    Parameters
    ----------
    node : Node
        The section that they were read from.
    stages : sequence of Stage
        What it asks for.
    objective : Objective
        What the stages optimise.
    """
    assert isinstance(node, MapNode)
    return [Fault(node.keys[stage.name], text) for stage in stages for text in _list_waste(stage, objective)]


def _list_waste(stage: Stage, objective: Objective) -> list[str]:
    if stage.halving is None:
        return []
    warnings = []
    reduction, low, high = stage.halving.reduction, stage.halving.min_epochs, stage.max_epochs
    enough = reduction**2
    if stage.trials < enough:
        warnings.append(
            f"halving with reduction {reduction} means little for {stage.trials} trials; "
            f"give it {enough} or more, or write halving: none"
        )
    has_model = stage.sampler == "gp" or (stage.sampler == "auto" and not objective.also)
    auto = "promise" if has_model and not stage.halving.grow else "rank"
    rule = auto if stage.halving.rule == "auto" else stage.halving.rule
    given = [key for key in ("peers", "tolerance") if getattr(stage.halving, key) != Halving.model_fields[key].default]
    if given and rule in {"promise", "forecast"}:
        warnings.append(f"{' and '.join(given)}: without effect with rule {rule}; write rule: rank, or take it out")
    if stage.halving.axis != "epochs" and rule in {"forecast", "median"}:
        warnings.append(f"axis: without effect with rule {rule}; write rule: rank or promise, or take it out")
    highest = high // reduction  # where the last rung but one would be
    if highest < low:
        what = f"with reduction {reduction} no rung lies between min_epochs, {low}, and max_epochs, {high}"
        what = f"min_epochs and max_epochs are both {high}" if low == high else what
        advice = f"min_epochs: {highest} or less" if highest else f"max_epochs: {reduction * low} or more"
        warnings.append(f"{what}, so nothing is stopped early; write {advice}, or halving: none")
    return warnings


def _read_halving(node: Node, faults: list[Fault]) -> Halving | None:
    return _read_unless_none(node, Halving, faults)


def _read_narrow(node: Node, faults: list[Fault]) -> Narrow | None:
    return _read_unless_none(node, Narrow, faults)


def _read_unless_none(node: Node, record: type[Record], faults: list[Fault]) -> Record | None:
    if isinstance(node, ScalarNode) and node.value == "none":
        return None
    if not isinstance(node, MapNode):
        keys = enumerate_words(list(record.model_fields), "and")
        faults.append(Fault(node.place, f"must be none, or a mapping with the keys {keys}, found {show(node)}"))
        return None
    num_faults = len(faults)
    values = read_section(node, record, faults)
    return record(**values) if len(faults) == num_faults else None
