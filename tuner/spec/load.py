"""From a file to what was asked: a search or a single training, checked whole."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import SpecError
from tuner.spec.faults import Fault, Place, list_faults
from tuner.spec.notify_section import read_notify
from tuner.spec.overrides import apply_overrides
from tuner.spec.search import FinishedSearch, Objective, Resources, SearchSpec, Stage, TensorBoard, TrainingSpec
from tuner.spec.sections import (
    find_useless_limits,
    read_data,
    read_limits,
    read_name,
    read_objective,
    read_resources,
    read_section,
    read_storage,
    read_tracking,
)
from tuner.spec.space import Choice, Config, Parameter, Scalar, Space, count_values
from tuner.spec.space_section import read_space
from tuner.spec.stages_section import find_waste, read_stages
from tuner.spec.try_section import read_try
from tuner.spec.yaml_tree import ListNode, MapNode, Node, ScalarNode, parse_yaml, show

MOST_BYTES = 2**18
SINGLE_MINDED = ("cmaes", "gp")  # samplers
LEAST_RANGES = 2  # a covariance is between two

Warn = Callable[[str], object]


def load_spec(path: Path, overrides: Sequence[str] = (), warn: Warn | None = None) -> SearchSpec:
    """Load a search file.

    Parameters
    ----------
    path : Path
        The file.
    overrides : sequence of str
        ``key.path=value`` each, the value in YAML, laid over the file before it is checked.
    warn : function of str, or None
        Called with each message on what is allowed and hardly meant, once the file is found to be right.

    Returns
    -------
    SearchSpec
        The search.

    Raises
    ------
    SpecError
        If the file cannot be read or is wrong; the message lists every fault with its place.
    """
    return load_text(_read_file(path), str(path), overrides, warn)


def load_text(
    text: str, name: str = "the search", overrides: Sequence[str] = (), warn: Warn | None = None
) -> SearchSpec:
    """Load a search from its YAML; ``load_spec`` says more.

    Raises
    ------
    SpecError
        If the text is wrong; the message begins with ``name`` and lists every fault with its place.
    """
    tree, faults = _load_tree(text, name, overrides)
    if "config" in tree.entries and not tree.entries.keys() & {"space", "stages"}:
        raise SpecError(
            f"{name}: this is a training file, for it has a config and no space; run it with: tuner train {name}"
        )
    warnings: list[Fault] = []
    values = _read_search(tree, faults, warnings)
    if faults:
        raise SpecError(list_faults(name, faults))
    if warn is not None:
        for warning in warnings:
            warn(f"{name}: {warning}")
    return SearchSpec(**values)


def load_training_spec(path: Path, overrides: Sequence[str] = ()) -> TrainingSpec:
    """Load a training file: one configuration, as ``tuner best`` writes it.

    Parameters
    ----------
    path : Path
        The file.
    overrides : sequence of str
        ``key.path=value`` each, the value in YAML, laid over the file before it is checked.

    Returns
    -------
    TrainingSpec
        The training.

    Raises
    ------
    SpecError
        If the file cannot be read or is wrong; the message lists every fault with its place.
    """
    return load_training_text(_read_file(path), str(path), overrides)


def load_training_text(text: str, name: str = "the training", overrides: Sequence[str] = ()) -> TrainingSpec:
    """Load a training from its YAML; ``load_training_spec`` says more.

    Raises
    ------
    SpecError
        If the text is wrong; the message begins with ``name`` and lists every fault with its place.
    """
    tree, faults = _load_tree(text, name, overrides)
    if tree.entries.keys() & {"space", "stages"} and "config" not in tree.entries:
        raise SpecError(
            f"{name}: this is a search file, for it has a space or stages and no config; run it with: tuner run {name}"
        )
    readers = {"name": read_name, "data": read_data, "objective": _read_one_objective, "config": _read_config}
    values = read_section(tree, TrainingSpec, faults, readers)
    if faults:
        raise SpecError(list_faults(name, faults))
    return TrainingSpec(**values)


def _read_search(tree: MapNode, faults: list[Fault], warnings: list[Fault]) -> dict[str, Any]:
    """Read every section, and return those that are right."""
    space_node = tree.entries.get("space")
    is_continued = isinstance(space_node, MapNode) and "from" in space_node.entries

    def read_all_stages(node: Node, faults: list[Fault]) -> Any:
        return read_stages(node, faults, has_predecessor=is_continued)

    readers = {
        "name": read_name,
        "data": read_data,
        "objective": read_objective,
        "space": _read_finished if is_continued else read_space,
        "stages": read_all_stages,
        "resources": read_resources,
        "limits": read_limits,
        "tracking": read_tracking,
        "tensorboard": lambda node, faults: TensorBoard(**read_section(node, TensorBoard, faults)),
        "notify": lambda node, faults: read_notify(node, faults, warnings),
        "storage": read_storage,
        "warm_start": _read_warm_start,
        "try": lambda node, _: node,  # once the space is known
    }
    values = read_section(tree, SearchSpec, faults, readers, hidden=("first",))
    if "limits" in values and all(key in values or key not in tree.entries for key in ("objective", "resources")):
        objective, resources = values.get("objective", Objective()), values.get("resources", Resources())
        faults.extend(find_useless_limits(tree.entries["limits"], values["limits"], objective, resources))
    space = values.get("space")
    if values.get("name") in values.get("warm_start", ()):
        message = f"a search cannot learn from itself, found {values['name']}; name an earlier one"
        faults.append(Fault(tree.keys["warm_start"], message))
    if "try" in values:
        values["first"] = _read_first(values.pop("try"), space, values.get("stages"), faults)
    if isinstance(space, Space) and all(parameter.is_constant for parameter in space.parameters):
        message = "nothing varies, so every trial is the same; write a distribution: {loguniform: [1e-4, 1]}"
        warnings.append(Fault(tree.keys["space"], message))
    objective = values.get("objective", Objective())
    if values.get("stages"):
        warnings.extend(find_waste(tree.entries["stages"], values["stages"], objective))
    if isinstance(space, Space) and "val_loss" in {objective.metric, *objective.also}:
        warnings.extend(_find_unlike_losses(space, tree.keys["objective"]))
    for sampler in _list_samplers(tree):
        if objective.also and sampler.value in SINGLE_MINDED:
            message = (
                f"{sampler.value} models one objective, and here are {1 + len(objective.also)}; write tpe, nsga2, qmc "
                "or random, or take all but the first objective out"
            )
            faults.append(Fault(sampler.place, message))
        if isinstance(space, Space) and sampler.value == "cmaes" and len(space.flat_ranges) < LEAST_RANGES:
            message = (
                f"cmaes models the ranges that exist whatever is chosen, and needs {LEAST_RANGES}, found "
                f"{len(space.flat_ranges)}; write sampler: auto"
            )
            faults.append(Fault(sampler.place, message))
    if isinstance(space, Space) and any(sampler.value == "grid" for sampler in _list_samplers(tree)):
        faults.extend(_find_continuous(space, tree))
        warnings.extend(_find_small_grids(space, values.get("stages") or (), tree))
    return values


def _read_warm_start(node: Node, faults: list[Fault]) -> tuple[str, ...]:
    """Read the names of earlier searches, each once."""
    if not isinstance(node, ListNode):
        faults.append(Fault(node.place, f"must be a list of searches' names, found {show(node)}; write [NAME]"))
        return ()
    names: list[str] = []
    for item in node.items:
        name = read_name(item, faults)
        if name in names:
            faults.append(Fault(item.place, f"the search {name} is given twice; keep one of them"))
        elif name is not None:
            names.append(name)
    return tuple(names)


def _read_first(node: Node, space: Any, stages: Any, faults: list[Fault]) -> tuple[Config, ...]:
    """Read what is tried first, which the first stage must have trials for."""
    first = read_try(node, space if isinstance(space, Space) else None, faults)
    if stages and len(first) > stages[0].trials:
        message = f"stage {stages[0].name} has {stages[0].trials} trials, found {len(first)} configurations to try"
        faults.append(Fault(node.place, f"{message}; give it more trials, or take some out"))
    return first


def _find_continuous(space: Space, tree: MapNode) -> list[Fault]:
    """Find the ranges that have no grid."""
    message = (
        "a continuous range has no grid; write a choice or uniform with a step, or a stage's sampler other than grid"
    )
    return [
        Fault(find_place(tree.entries["space"], parameter.name), message)
        for parameter in space.parameters
        if count_values(parameter.distribution) is None
    ]


def find_place(node: Node, name: str) -> Place:
    """Find where a parameter of a space that was read stands.

    Parameters
    ----------
    node : Node
        The section of the space.
    name : str
        The parameter's dotted name.
    """
    place = node.place
    for key in name.split("."):
        assert isinstance(node, MapNode)
        if key not in node.entries:
            node = node.entries["choice"]
            assert isinstance(node, MapNode)
        place, node = node.keys[key], node.entries[key]
    return place


def _find_small_grids(space: Space, stages: Sequence[Stage], tree: MapNode) -> list[Fault]:
    """Warn of stages that end before their trials are used up."""
    size = space.count_points()
    nodes = tree.entries["stages"]
    assert isinstance(nodes, MapNode)
    return [
        Fault(
            nodes.keys[stage.name],
            f"the grid has {size} points, so the stage ends after {size} of {stage.trials} trials",
        )
        for stage in stages
        if stage.sampler == "grid" and size is not None and size < stage.trials
    ]


def _list_samplers(tree: MapNode) -> list[ScalarNode]:
    """List the samplers that stages ask for by name."""
    stages = tree.entries.get("stages")
    nodes = stages.entries.values() if isinstance(stages, MapNode) else ()
    samplers = [node.entries.get("sampler") for node in nodes if isinstance(node, MapNode)]
    return [node for node in samplers if isinstance(node, ScalarNode)]


def _find_unlike_losses(space: Space, place: Place) -> list[Fault]:
    """Warn of losses that are compared and mean different things."""
    families = {option for p in space.parameters if p.name == "architecture" for option in _get_options(p)}
    if "hog_svm" not in families or len(families) == 1:
        return []
    message = (
        "the loss of hog_svm is a hinge loss and that of the other families cross-entropy, so they cannot be compared "
        "by val_loss; write objective: val_accuracy, or search hog_svm by itself"
    )
    return [Fault(place, message)]


def _get_options(parameter: Parameter) -> tuple[Scalar, ...]:
    return parameter.distribution.options if isinstance(parameter.distribution, Choice) else ()


def _read_finished(node: Node, faults: list[Fault]) -> FinishedSearch | None:
    """Read ``{from: NAME}``, which has nothing beside it."""
    assert isinstance(node, MapNode)
    for key in node.entries.keys() - {"from"}:
        message = "beside from nothing can stand, for the space is the finished search's; take one of them out"
        faults.append(Fault(node.keys[key], message))
    name = read_name(node.entries["from"], faults)
    return None if name is None else FinishedSearch(name=name)


def _read_one_objective(node: Node, faults: list[Fault]) -> Objective | None:
    """Read what makes an epoch of a training the best, for which one metric is enough."""
    objective = read_objective(node, faults)
    if objective is not None and objective.also:
        message = f"a training has one objective, found {show(node)}; write objective: {objective.metric}"
        faults.append(Fault(node.place, message))
    return objective


def _read_config(node: Node, faults: list[Fault]) -> dict[str, Scalar] | None:
    """Read a space in which nothing varies as the one config that it has."""
    space = read_space(node, faults, constants_only=True)
    if space is None:
        return None
    return {
        parameter.name: parameter.distribution.options[0]
        for parameter in space.parameters
        if isinstance(parameter.distribution, Choice)
    }


def _load_tree(text: str, name: str, overrides: Sequence[str]) -> tuple[MapNode, list[Fault]]:
    """Parse a text and lay the overrides over it.

    Raises
    ------
    SpecError
        If the text is no mapping at all.
    """
    tree, faults = parse_yaml(text)
    if not isinstance(tree, MapNode):
        found = "nothing" if tree is None else show(tree)
        message = f"the file must be a mapping that begins with name: ..., found {found}"
        raise SpecError(list_faults(name, faults or [Fault(Place(1, 1), message)]))
    return apply_overrides(tree, overrides, faults), faults


def _read_file(path: Path) -> str:
    """Return a file's text.

    Raises
    ------
    SpecError
        If it cannot be had.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file{_find_near(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: this is a folder{_find_inside(path)}") from None
    except PermissionError:
        raise SpecError(f"{path}: this file may not be read; change its permissions") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: this file cannot be read: {error}; name another one") from None
    if len(content) > MOST_BYTES:
        raise SpecError(f"{path}: at most {MOST_BYTES} bytes are allowed, found more; this is no search file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = Place(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"the text must be UTF-8, found the byte {content[error.start]:#04x}; save the file as UTF-8"
        raise SpecError(list_faults(str(path), [Fault(place, message)])) from None


def _find_near(path: Path) -> str:
    """Return advice that names a file of a similar name beside the one that is missing."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml"}]
    except OSError:
        return f", nor a folder {path.parent}; check the path"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else "; check the path"


def _find_inside(path: Path) -> str:
    """Return advice that names a file inside a folder."""
    try:
        files = sorted(entry for entry in path.iterdir() if entry.suffix in {".yaml", ".yml"})
    except OSError:
        files = []
    return f"; name a file in it, such as {files[0]}" if files else " without a YAML file; name a search file"
