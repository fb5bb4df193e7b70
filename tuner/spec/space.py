"""The search space: which hyperparameters may vary, over what, and under which condition.

A space is flat. What the YAML nests under an alternative of a ``choice`` becomes a parameter with a condition
and a dotted name: ``architecture.resnet.depth`` exists where ``architecture`` is ``resnet``. A *config*, one
point of the space, maps the names of the parameters that exist under its own choices to their values. A
constant is a choice of one option.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import Field

from tuner.spec.model import SpecModel

Scalar: TypeAlias = bool | int | float | str
Config: TypeAlias = Mapping[str, Scalar]

GRID_TOLERANCE = 1e-8  # in steps: Optuna's own, which the ledger goes by


class Uniform(SpecModel):
    """A float that is uniform between two ends, both included."""

    low: float
    high: float
    step: float | None = Field(default=None, gt=0)


class LogUniform(SpecModel):
    """A float whose logarithm is uniform: for scales, such as a learning rate."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Int(SpecModel):
    """An integer that is uniform between two ends, both included."""

    low: int
    high: int
    step: int = Field(default=1, gt=0)


class LogInt(SpecModel):
    """An integer whose logarithm is uniform, both ends included: for widths and other sizes."""

    low: int = Field(gt=0)
    high: int = Field(gt=0)


class Choice(SpecModel):
    """One of several options without an order; with one option, a constant."""

    options: tuple[Scalar, ...] = Field(min_length=1)


class Prior(SpecModel):
    """What the user takes for the best value before anything was tried, and how sure that is."""

    guess: Scalar = Field(description="What is taken for the best value.")
    confidence: Literal["low", "medium", "high"] = Field(
        default="medium",
        description="How near to the guess the best value is taken to lie: the deviation is a quarter, an eighth or a "
        "twentieth of the range; of a choice, the guess weighs 2, 4 or 8 times as much as another option.",
    )


Distribution: TypeAlias = Uniform | LogUniform | Int | LogInt | Choice


@dataclass(frozen=True)
class Parameter:
    """One entry of a space.

    Attributes
    ----------
    name : str
        Its path of keys and alternatives with dots between them, unique in its space.
    distribution : Distribution
        What it is drawn from.
    condition : (str, str) or None
        The name of another parameter and its option under which this one exists; None where it always does.
        That other parameter may have a condition of its own.
    prior : Prior or None
        What the user believes of it; never of a constant.
    """

    name: str
    distribution: Distribution
    condition: tuple[str, str] | None = None
    prior: Prior | None = None

    @property
    def key(self) -> str:
        """The last part of the name: the hyperparameter's own."""
        return self.name.rpartition(".")[2]

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to search."""
        return isinstance(self.distribution, Choice) and len(self.distribution.options) == 1

    def checked(self) -> "Parameter":
        """Return this parameter, without its prior if nothing is to be guessed or the guess is no value of it."""
        if self.prior is None or (not self.is_constant and is_inside(self.distribution, self.prior.guess)):
            return self
        return dataclasses.replace(self, prior=None)


@dataclass(frozen=True)
class Space:
    """All parameters of a search, each after the one that it depends on.

    Attributes
    ----------
    parameters : tuple of Parameter
        In the order of the file, a parent before its children.
    """

    parameters: tuple[Parameter, ...]

    @property
    def flat_ranges(self) -> tuple[Parameter, ...]:
        """The ranges that exist whatever is chosen, in their order."""
        certain: set[tuple[str, str] | None] = {None}
        ranges = []
        for parameter in self.parameters:
            if parameter.condition in certain:
                if not isinstance(parameter.distribution, Choice):
                    ranges.append(parameter)
                elif parameter.is_constant and isinstance(option := parameter.distribution.options[0], str):
                    certain.add((parameter.name, option))
        return tuple(ranges)

    def count_points(self, condition: tuple[str, str] | None = None) -> int | None:
        """Count the configs; None where there is no end of them, for a range is continuous.

        Parameters
        ----------
        condition : (str, str) or None
            Count what can stand under this option of a parameter; None for the whole.
        """
        count = 1
        for parameter in self.parameters:
            if parameter.condition == condition:
                distribution = parameter.distribution
                if isinstance(distribution, Choice):
                    below = [
                        self.count_points((parameter.name, option)) if isinstance(option, str) else 1
                        for option in distribution.options
                    ]
                    num_values = None if None in below else sum(number or 0 for number in below)
                else:
                    num_values = count_values(distribution)
                if num_values is None:
                    return None
                count *= num_values
        return count

    def __getitem__(self, name: str) -> Parameter:
        """Return the parameter of that name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)

    def walk(self, choose: Callable[[Parameter], Scalar]) -> dict[str, Scalar]:
        """Build a config by asking for one value after the other, skipping what the choices made rule out.

        Parameters
        ----------
        choose : function from Parameter to value
            Called for every parameter that exists, parents first; constants are not asked for.
        """
        config: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if parameter.condition is None or config.get(parameter.condition[0]) == parameter.condition[1]:
                distribution = parameter.distribution
                if isinstance(distribution, Choice) and len(distribution.options) == 1:
                    config[parameter.name] = distribution.options[0]
                else:
                    config[parameter.name] = choose(parameter)
        return config

    def contains(self, config: Config) -> bool:
        """Tell whether ``config`` is a point of this space: the right names, each value inside its range."""
        try:
            walked = self.walk(lambda parameter: config[parameter.name])
        except KeyError:
            return False
        return walked == dict(config) and all(
            is_inside(self[name].distribution, value) for name, value in config.items()
        )

    def replace(self, distributions: Mapping[str, Distribution]) -> "Space":
        """Return this space with other distributions, less what depended on an option that is gone.

        A prior whose guess is gone goes too.
        """
        kept: dict[str, Parameter] = {}
        for parameter in self.parameters:
            if parameter.condition is not None:
                parent = kept.get(parameter.condition[0])
                if parent is None or not is_inside(parent.distribution, parameter.condition[1]):
                    continue
            kept[parameter.name] = dataclasses.replace(
                parameter, distribution=distributions.get(parameter.name, parameter.distribution)
            ).checked()
        return Space(tuple(kept.values()))


def count_values(distribution: Distribution) -> int | None:
    """Count the values of a distribution; None where it is continuous."""
    if isinstance(distribution, Choice):
        return len(distribution.options)
    step = (
        1 if isinstance(distribution, LogInt) else None if isinstance(distribution, LogUniform) else distribution.step
    )
    return None if step is None else round((distribution.high - distribution.low) / step) + 1


def is_inside(distribution: Distribution, value: Scalar) -> bool:
    """Tell whether a value could have been drawn from a distribution."""
    if isinstance(distribution, Choice):
        return any(option == value and type(option) is type(value) for option in distribution.options)
    if isinstance(value, bool | str):
        return False
    if isinstance(distribution, Int | LogInt) and not isinstance(value, int):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    step = distribution.step if isinstance(distribution, Uniform | Int) else None
    num_steps = 0.0 if step is None else (value - distribution.low) / step
    return abs(num_steps - round(num_steps)) < GRID_TOLERANCE
