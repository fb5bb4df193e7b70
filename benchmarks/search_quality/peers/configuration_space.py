"""Our spaces as ConfigSpace, conditions included: options and steps by their indices."""

from ConfigSpace import (
    CategoricalHyperparameter,
    ConfigurationSpace,
    EqualsCondition,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.hyperparameters import Hyperparameter

from search_quality.peers.driving import choosing, num_steps
from tuner.spec.space import Choice, Int, LogInt, LogUniform, Parameter, Scalar, Space
from tuner.strategy.draws import index_of


def hyperparameter(parameter: Parameter) -> Hyperparameter:
    """Return one parameter, with the library's default priors."""
    name, distribution, steps = parameter.name, parameter.distribution, num_steps(parameter)
    if isinstance(distribution, Choice):
        return CategoricalHyperparameter(name, list(range(len(distribution.options))))
    if steps is not None:
        return UniformIntegerHyperparameter(name, 0, steps)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int | LogInt):
        return UniformIntegerHyperparameter(name, low, high, log=isinstance(distribution, LogInt))
    return UniformFloatHyperparameter(name, low, high, log=isinstance(distribution, LogUniform))


def configuration_space(space: Space, seed: int) -> ConfigurationSpace:
    """Return a space; the names of what is constant are left out, as are conditions on it."""
    built = ConfigurationSpace(seed=seed)
    built.add([hyperparameter(parameter) for parameter in space.parameters if not parameter.is_constant])
    for parameter in space.parameters:
        if parameter.is_constant or parameter.condition is None:
            continue
        parent, option = parameter.condition
        if not space[parent].is_constant:
            choice = space[parent].distribution
            assert isinstance(choice, Choice)
            built.add(EqualsCondition(built[parameter.name], built[parent], index_of(choice, option)))
    return built


def config_of(space: Space, values: dict[str, object]) -> dict[str, Scalar]:
    """Turn a configuration's values into a config."""
    return space.walk(lambda parameter: choosing(values, parameter))
