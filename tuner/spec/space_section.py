"""The ``space`` section: from the nested YAML to a checked, flat Space."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.spec.domain import Domain, describe, find_domain
from tuner.spec.faults import Fault, Place, enumerate_words, suggest, suggest_among
from tuner.spec.hyperparameters import COMPONENTS, Hyperparameters, find_owner
from tuner.spec.ranges import RANGES, STEPPED, find_fitting, read_range
from tuner.spec.sections import read_section
from tuner.spec.space import Choice, Distribution, Parameter, Prior, Scalar, Space, is_inside
from tuner.spec.yaml_tree import ListNode, MapNode, Node, ScalarNode, printable, show


@dataclass(frozen=True)
class _Entry:
    """One hyperparameter as it stands in the file, whether its values are right or not."""

    place: Place
    name: str
    owner: tuple[str, str]
    domain: Domain
    conditions: tuple[tuple[str, str], ...]

    def meets(self, other: "_Entry") -> bool:
        """Tell whether both exist under some choices."""
        mine = dict(self.conditions)
        return all(mine.get(parent, option) == option for parent, option in other.conditions)


class _SpaceReader:
    """Walks the section once and keeps what it found: parameters, entries, faults."""

    def __init__(self, faults: list[Fault], *, constants_only: bool) -> None:
        self.faults = faults
        self.constants_only = constants_only
        self.parameters: list[Parameter] = []
        self.entries: list[_Entry] = []

    def read_space(self, node: Node, prefix: str, conditions: tuple[tuple[str, str], ...]) -> None:
        """Read a space: the whole one, or one that exists under an alternative."""
        if isinstance(node, ScalarNode) and node.value is None:
            return
        if not isinstance(node, MapNode):
            self._refuse(node.place, f"must be a mapping of hyperparameters, or {{}}, found {show(node)}")
            return
        for key, value in node.entries.items():
            owner = find_owner(f"{prefix}{key}") if "." not in key else None
            if owner is None:
                self._refuse(node.keys[key], _explain_unknown(key, prefix))
                continue
            record, component = owner
            domain = find_domain(record, key)
            entry = _Entry(node.keys[key], f"{prefix}{key}", (component, key), domain, conditions)
            self.entries.append(entry)
            self._read_value(entry, value, domain)

    def _refuse(self, place: Place, message: str) -> None:
        self.faults.append(Fault(place, message))

    def _add(self, entry: _Entry, distribution: Distribution, prior_node: Node | None = None) -> None:
        condition = entry.conditions[-1] if entry.conditions else None
        prior = None if prior_node is None else self._read_prior(prior_node, entry.domain, distribution)
        parameter = Parameter(entry.name, distribution, condition, prior).checked()
        if self.constants_only and not parameter.is_constant:
            self._refuse(entry.place, "must be a constant, for this is one configuration; write one value")
        self.parameters.append(parameter)

    def _read_prior(self, node: Node, domain: Domain, distribution: Distribution) -> Prior | None:
        """Read a guess, or a mapping of it and how sure it is."""

        def read_guess(node: Node, faults: list[Fault]) -> Scalar | None:
            guess = domain.read(node, faults)
            if guess is not None and not is_inside(distribution, guess):
                self._refuse(node.place, f"the guess must be {describe(distribution)}, found {show(node)}")
            return guess

        if isinstance(node, ScalarNode):
            node = MapNode(node.place, {"guess": node}, {"guess": node.place})
        num_faults = len(self.faults)
        values = read_section(node, Prior, self.faults, {"guess": read_guess})
        return Prior(**values) if len(self.faults) == num_faults else None

    def _read_value(self, entry: _Entry, node: Node, domain: Domain) -> None:
        """Read what stands behind a hyperparameter: a constant, a distribution or a fixed alternative."""
        if isinstance(node, ScalarNode):
            value = domain.read(node, self.faults)
            if value is not None:
                self._add(entry, Choice(options=(value,)))
        elif isinstance(node, ListNode):
            key = entry.place.key_path.rpartition(".")[2]
            self._refuse(node.place, f"a list is no value; write {key}: {{choice: {show(node)}}}")
        elif not {*RANGES, "choice"} & node.entries.keys() and _is_fixed(node, domain):
            self._read_alternatives(entry, node, domain)
        elif kind := self._find_distribution(node, domain):
            value_node = node.entries[kind]
            if kind != "choice":
                drawn = read_range(kind, value_node, node.entries.get("step"), domain, self.faults)
                if drawn is not None:
                    self._add(entry, drawn, node.entries.get("prior"))
            elif isinstance(value_node, MapNode):
                self._read_alternatives(entry, value_node, domain, node.entries.get("prior"))
            else:
                self._read_options(entry, value_node, domain, node.entries.get("prior"))

    def _find_distribution(self, node: MapNode, domain: Domain) -> str | None:
        """Return the distribution's key if there is exactly one and nothing strange beside it."""
        kinds = [key for key in node.entries if key in RANGES or key == "choice"]
        if len(kinds) > 1:
            self._refuse(node.place, f"one distribution is allowed, found {enumerate_words(kinds, 'and')}; keep one")
            return None
        strange = [key for key in node.entries if key not in {*kinds, "step", "prior"}]
        if not kinds:
            first = strange[0] if strange else ""
            self._refuse(node.keys.get(first, node.place), _explain_no_distribution(node, domain, first))
            return None
        for key in strange:
            self._refuse(
                node.keys[key],
                f"beside {kinds[0]} only step and prior can stand, found {printable(key)}"
                f"{suggest(key, ['step', 'prior'])}",
            )
        if "step" in node.entries and kinds[0] not in STEPPED:
            self._refuse(
                node.keys["step"],
                f"a step goes with {enumerate_words(STEPPED)}, found beside {kinds[0]}; take it out",
            )
            return None
        return kinds[0]

    def _read_options(self, entry: _Entry, node: Node, domain: Domain, prior_node: Node | None) -> None:
        if not isinstance(node, ListNode) or not node.items:
            self._refuse(node.place, f"must be a list of options, found {show(node)}; write choice: [a, b]")
            return
        options: list[Scalar] = []
        for item in node.items:
            if isinstance(item, MapNode) and domain.takes_alternatives:
                self._refuse(
                    item.place,
                    f"an option is one word, found {show(item)}; where one has a space of its own, write "
                    "choice: {one: {...}, other: {...}}",
                )
                continue
            value = domain.read(item, self.faults)
            if value is not None and value in options:
                self._refuse(item.place, f"the option {show(item)} is given twice; keep one of them")
            elif value is not None:
                options.append(value)
        if len(options) == len(node.items):
            self._add(entry, Choice(options=tuple(options)), prior_node)

    def _read_alternatives(self, entry: _Entry, node: MapNode, domain: Domain, prior_node: Node | None = None) -> None:
        """Read options that bring spaces of their own."""
        if not node.entries:
            self._refuse(node.place, "must have an alternative or more, found {}; write choice: [a, b]")
            return
        if not domain.takes_alternatives:
            self._refuse(
                node.place,
                f"only words can have a space of their own, and this is {domain.describe()}; "
                "write a list, such as choice: [a, b]",
            )
            return
        known = [key for key in node.entries if key in domain.words]
        for key in [key for key in node.entries if key not in domain.words]:
            words = [str(word) for word in domain.words]
            self._refuse(node.keys[key], f"must be {domain.describe()}, found {printable(key)}{suggest(key, words)}")
        if len(known) == len(node.entries):
            self._add(entry, Choice(options=tuple(known)), prior_node)
        for key in known:
            conditions = (*entry.conditions, (entry.name, key))
            self.read_space(node.entries[key], f"{entry.name}.{key}.", conditions)

    def check_overlaps(self) -> None:
        """Refuse what is given twice under the same choices."""
        seen: dict[tuple[str, str], list[_Entry]] = {}
        for entry in self.entries:
            others = seen.setdefault(entry.owner, [])
            for other in others:
                if entry.meets(other):
                    self._refuse(
                        entry.place,
                        f"{entry.owner[1]} is given as {other.place.key_path} too, and both can hold; keep one of them",
                    )
                    break
            others.append(entry)


def read_space(node: Node, faults: list[Fault], *, constants_only: bool = False) -> Space | None:
    """Read a space as the YAML nests it.

    Parameters
    ----------
    node : Node
        The section.
    faults : list of Fault
        Gets what is wrong.
    constants_only : bool
        Whether anything that varies is wrong.

    Returns
    -------
    Space or None
        None where a fault was found.
    """
    num_faults = len(faults)
    reader = _SpaceReader(faults, constants_only=constants_only)
    reader.read_space(node, "", ())
    reader.check_overlaps()
    for key, field in Hyperparameters.model_fields.items():
        if field.is_required() and not _is_everywhere(node, key):
            words = [str(word) for word in find_domain(Hyperparameters, key).words]
            faults.append(
                Fault(
                    node.place,
                    f"{key} is missing, or is not given under every alternative; "
                    f"allowed: {enumerate_words(words)}; write {key}: {{choice: [{', '.join(words)}]}}",
                )
            )
    return Space(tuple(reader.parameters)) if len(faults) == num_faults else None


def read_point(node: Node, faults: list[Fault]) -> list[tuple[Place, str, Scalar]]:
    """Read a space in which nothing varies, and in which anything may be left out.

    Returns
    -------
    list of (Place, str, value)
        Where each parameter stands, its dotted name and its value, a parent before its children.
    """
    reader = _SpaceReader(faults, constants_only=True)
    reader.read_space(node, "", ())
    reader.check_overlaps()
    places = {entry.name: entry.place for entry in reader.entries}
    return [
        (places[parameter.name], parameter.name, parameter.distribution.options[0])
        for parameter in reader.parameters
        if isinstance(parameter.distribution, Choice)
    ]


def _is_fixed(node: MapNode, domain: Domain) -> bool:
    return domain.takes_alternatives and len(node.entries) == 1 and next(iter(node.entries)) in domain.words


def _is_everywhere(node: Node, key: str) -> bool:
    """Tell whether a hyperparameter is given under whatever is chosen."""
    if not isinstance(node, MapNode):
        return False
    return key in node.entries or any(
        all(_is_everywhere(space, key) for space in spaces) for spaces in _find_alternatives(node)
    )


def _find_alternatives(node: MapNode) -> Iterator[list[Node]]:
    """Yield, for every hyperparameter that has them, the spaces of its alternatives."""
    for value in node.entries.values():
        if isinstance(value, MapNode):
            alternatives = value.entries.get("choice", value)
            if isinstance(alternatives, MapNode) and alternatives.entries:
                yield list(alternatives.entries.values())


def _explain_no_distribution(node: MapNode, domain: Domain, found: str) -> str:
    """Say what can stand behind a hyperparameter instead of a mapping that is none of it."""
    if domain.takes_alternatives:
        words = [str(word) for word in domain.words]
        if len(node.entries) > 1 and node.entries.keys() <= set(words):
            return f"several alternatives are a choice; write {{choice: {show(node)}}}"
        return (
            f"must be {domain.describe()}, or {{choice: [...]}} of them, found {show(node)}"
            f"{suggest(found, [*words, 'choice'])}"
        )
    allowed = [*find_fitting(domain), "choice"]
    return (
        f"must be {domain.describe()}, or a mapping with {enumerate_words(allowed)}, found {show(node)}"
        f"{suggest(found, allowed)}"
    )


def _explain_unknown(key: str, prefix: str) -> str:
    """Say why a key is no hyperparameter here, where it belongs, and what is allowed."""
    path = prefix.split(".")[:-1]
    around = set(zip(path[::2], path[1::2], strict=True))
    allowed = list(Hyperparameters.model_fields)
    elsewhere: list[str] = []
    homes = []
    for component, options in COMPONENTS.items():
        for option, record in options.items():
            fields = allowed if (component, option) in around else elsewhere
            fields.extend(record.model_fields)
        owners = [option for option, record in options.items() if key in record.model_fields]
        if owners:
            homes.append(f"{component}: {{choice: {{{', '.join(f'{o}: {{{key}: ...}}' for o in owners)}}}}}")
    if homes:
        advice = f"; it belongs under {enumerate_words(homes)}"
        listing = ""
    else:
        listing = suggest_among(key, allowed)
        advice = "" if suggest(key, allowed) else suggest(key, elsewhere)
    place = f"under {'.'.join(path)}" if path else "here"
    return f"{printable(key)} is no hyperparameter {place}{advice}{listing}"
