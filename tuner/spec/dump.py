"""Back to YAML: what loads again to the equal spec."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tuner.spec.search import FinishedSearch, Notify, Objective, SearchSpec, Stage, TrainingSpec
from tuner.spec.space import Choice, Config, Distribution, Int, LogInt, LogUniform, Parameter, Space, Uniform
from tuner.spec.yaml_tree import NUMBER

WIDTH = 110
ROOM = 86


class Spread(dict[str, Any]):
    """A mapping that is written with a line for every key, however short it is."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, small mappings on one line, and quotes for text that YAML 1.2 reads as a number."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write equal values out again instead of pointing at the first."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        """Put a mapping on one line if there is room for it."""
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = not isinstance(mapping, Spread) and _measure(node) <= ROOM
        return node

    def represent(self, data: Any) -> None:
        """Write the document, its root never on one line, nor a section that has mappings in it."""
        root = self.represent_data(data)
        assert isinstance(root, yaml.MappingNode)
        root.flow_style = False
        for _, section in root.value:
            if isinstance(section, yaml.MappingNode) and any(
                isinstance(value, yaml.MappingNode) for _, value in section.value
            ):
                section.flow_style = False
        self.serialize(root)


def _measure(node: yaml.Node) -> int:
    """Return about how many characters a node takes on one line."""
    if isinstance(node, yaml.MappingNode):
        return 2 + sum(_measure(key) + _measure(value) + 4 for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return 2 + sum(_measure(item) + 2 for item in node.value)
    return len(node.value)


def _represent_float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    """Write a float with the fewest digits that give it back."""
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _represent_text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Write text, with escapes for what would else be folded into a blank, such as U+0085."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(Spread, _Dumper.represent_dict)
_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def dump_spec(spec: SearchSpec, *, spread: bool = False) -> str:
    """Write a search as YAML that loads to the equal SearchSpec, defaults included.

    The one difference: how the first stage is narrowed is left out where the space is no finished search's,
    for then it has been narrowed already.

    Parameters
    ----------
    spec : SearchSpec
        The search.
    spread : bool
        Whether every hyperparameter of the space gets a line of its own.
    """
    is_continued = isinstance(spec.space, FinishedSearch)
    tree = {
        "name": spec.name,
        "data": spec.data.model_dump(exclude_none=True),
        "objective": _nest_objective(spec.objective),
        "space": {"from": spec.space.name}
        if isinstance(spec.space, FinishedSearch)
        else nest_space(spec.space, Spread if spread else dict),
        "stages": {
            stage.name: _nest_stage(stage, can_narrow=is_continued or i > 0) for i, stage in enumerate(spec.stages)
        },
        "resources": spec.resources.model_dump(),
        "limits": {
            **({} if spec.limits.time_s is None else {"time": _shorten(spec.limits.time_s)}),
            **spec.limits.model_dump(exclude={"time_s"}, exclude_none=True),
        },
        "seed": spec.seed,
        "tracking": spec.tracking.model_dump(),
        "tensorboard": spec.tensorboard.model_dump(),
        **({} if spec.notify is None else {"notify": _nest_notify(spec.notify)}),
        **({} if spec.storage == "auto" else {"storage": spec.storage}),
        **({"try": [nest_config(config) for config in spec.first]} if spec.first else {}),
        **({"warm_start": list(spec.warm_start)} if spec.warm_start else {}),
    }
    return write_yaml(tree)


def dump_training_spec(spec: TrainingSpec) -> str:
    """Write a training as YAML that loads to the equal TrainingSpec."""
    tree = {
        "name": spec.name,
        "data": spec.data.model_dump(exclude_none=True),
        "objective": _nest_objective(spec.objective),
        "config": nest_config(spec.config),
        "epochs": spec.epochs,
        **({} if spec.fidelity == "epochs" else {"fidelity": spec.fidelity}),
        "seed": spec.seed,
        **({} if spec.origin is None else {"origin": spec.origin}),
    }
    return write_yaml(tree)


def dump_config(config: Config) -> str:
    """Write one point of a space as the YAML of a space in which nothing varies."""
    return write_yaml(nest_config(config))


def nest_config(config: Config) -> dict[str, Any]:
    """Turn a flat config into nested constants, ``architecture: {resnet: {depth: 14}}``.

    Parameters
    ----------
    config : mapping from dotted names to values
        A point of a space, a parent before its children.
    """
    parameters = []
    for name, value in config.items():
        parent, _, option = name.rpartition(".")[0].rpartition(".")
        condition = (parent, option) if parent else None
        parameters.append(Parameter(name, Choice(options=(value,)), condition))
    return nest_space(Space(tuple(parameters)))


def nest_space(space: Space, mapping: type[dict[str, Any]] = dict) -> dict[str, Any]:
    """Turn a flat space into what its YAML nests.

    Parameters
    ----------
    space : Space
        The space.
    mapping : type
        What holds hyperparameters, and choices that hold some in turn.
    """
    children: dict[tuple[str, str] | None, list[Parameter]] = {}
    for parameter in space.parameters:
        children.setdefault(parameter.condition, []).append(parameter)
    return _nest_children(children, None, mapping)


def _nest_children(
    children: Mapping[tuple[str, str] | None, Sequence[Parameter]],
    condition: tuple[str, str] | None,
    mapping: type[dict[str, Any]],
) -> dict[str, Any]:
    nested = mapping()
    for parameter in children.get(condition, ()):
        spaces = mapping()
        if isinstance(parameter.distribution, Choice):
            spaces.update(
                (option, _nest_children(children, (parameter.name, option), mapping))
                for option in parameter.distribution.options
                if isinstance(option, str)
            )
        nested[parameter.key] = _nest_distribution(
            parameter.distribution, spaces if any(spaces.values()) else mapping()
        )
        if parameter.prior is not None:
            nested[parameter.key]["prior"] = parameter.prior.model_dump()
    return nested


def _nest_distribution(distribution: Distribution, spaces: dict[str, Any]) -> Any:
    match distribution:
        case Choice(options=(option,)):
            return spaces or option
        case Choice(options=options):
            return type(spaces)(choice=spaces) if spaces else {"choice": list(options)}
        case Uniform(low=low, high=high, step=step):
            return {"uniform": [low, high], **({} if step is None else {"step": step})}
        case Int(low=low, high=high, step=step):
            return {"int": [low, high], **({} if step == 1 else {"step": step})}
        case LogUniform(low=low, high=high):
            return {"loguniform": [low, high]}
        case LogInt(low=low, high=high):
            return {"logint": [low, high]}


def _nest_objective(objective: Objective) -> dict[str, Any]:
    also = {"also": list(objective.also)} if objective.also else {}
    return {"metric": objective.metric, "mode": objective.mode, **also}


def _nest_stage(stage: Stage, *, can_narrow: bool) -> dict[str, Any]:
    narrow = "none" if stage.narrow is None else stage.narrow.model_dump()
    return {
        "trials": stage.trials,
        "max_epochs": stage.max_epochs,
        "halving": "none" if stage.halving is None else stage.halving.model_dump(),
        "sampler": stage.sampler,
        "fidelity": stage.fidelity,
        **({"narrow": narrow} if can_narrow else {}),
    }


def _nest_notify(notify: Notify) -> dict[str, Any]:
    channels: dict[str, Any] = {"command": list(notify.command)} if notify.command else {}
    channels |= {} if notify.webhook is None else {"webhook": notify.webhook}
    return {**channels, "events": list(notify.events)}


def _shorten(number: float) -> float:
    """Return a whole number as an int, which has no ``.0`` to write."""
    return int(number) if number.is_integer() else number


def write_yaml(tree: Mapping[str, Any]) -> str:
    """Write plain data as YAML 1.2, innermost collections on one line."""
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
    )
    return text
