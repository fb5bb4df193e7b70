"""Random spaces and searches, as hypothesis strategies."""

import random
from typing import Any

from hypothesis import strategies as st

from tuner.spec import (
    Choice,
    DataSpec,
    Distribution,
    FinishedSearch,
    Halving,
    Hyperparameters,
    Int,
    Limits,
    LogInt,
    LogUniform,
    Narrow,
    Notify,
    Objective,
    Parameter,
    Prior,
    Resources,
    Scalar,
    SearchSpec,
    Space,
    Stage,
    TensorBoard,
    Tracking,
    Uniform,
    find_owner,
)
from tuner.spec.domain import Domain, find_domain
from tuner.spec.hyperparameters import COMPONENTS

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
TEXTS = st.text(
    st.sampled_from("aZ019 \t\n:#'\"\\|>-?&*!%@`{}[],.~_=+/\x7f\x85\u00a0\u00e9\u2028\u4e2d\U0001f600"),
    min_size=1,
)


def _draw_float(draw: st.DrawFn, domain: Domain, at_least: float = 0.0) -> float:
    low = at_least if domain.low is None else max(at_least, domain.low)
    high = 1e6 if domain.high is None else domain.high
    value = draw(st.floats(low, high, exclude_min=domain.is_low_open, exclude_max=domain.is_high_open))
    return abs(value)


def _draw_floats(draw: st.DrawFn, domain: Domain) -> Distribution:
    if draw(st.booleans()) and domain.is_in_bounds(0.1) and domain.is_in_bounds(0.7):
        step, count = draw(st.sampled_from([(0.1, 6), (0.2, 3), (0.3, 2)]))
        return Uniform(low=0.1, high=round(0.1 + step * count, 10), step=step)
    ends = sorted({_draw_float(draw, domain, 1e-300), _draw_float(draw, domain, 1e-300)})
    if len(ends) == 1:
        return Choice(options=(ends[0],))
    kind = draw(st.sampled_from([Uniform, LogUniform]))
    return kind(low=ends[0], high=ends[1])


def _draw_ints(draw: st.DrawFn, domain: Domain) -> Distribution:
    low = draw(st.integers(max(1, int(domain.low or 0)), int(domain.high or 0) - 1))
    high = draw(st.integers(low + 1, int(domain.high or 0)))
    steps = [step for step in (1, 2, 3, 8) if (high - low) % step == 0]
    return draw(st.sampled_from([LogInt(low=low, high=high), *(Int(low=low, high=high, step=step) for step in steps)]))


def _draw_distribution(draw: st.DrawFn, domain: Domain) -> Distribution:
    options: list[Scalar] = []
    if domain.words or domain.kind == "bool":
        options = draw(st.lists(st.sampled_from(domain.words or (False, True)), min_size=1, unique=True))
    elif draw(st.booleans()):
        return _draw_floats(draw, domain) if domain.kind == "float" else _draw_ints(draw, domain)
    elif domain.kind == "float":
        options = sorted({_draw_float(draw, domain) for _ in range(draw(st.integers(1, 3)))})
    else:
        values = st.integers(int(domain.low or 0), int(domain.high or 0))
        options = draw(st.lists(values, min_size=1, max_size=3, unique=True))
    return Choice(options=tuple(options))


def _draw_level(
    draw: st.DrawFn,
    prefix: str,
    condition: tuple[str, str] | None,
    taken: set[tuple[str, str]],
    *,
    is_owing: bool,
) -> list[Parameter]:
    """Draw what stands under one alternative; ``taken`` is what can stand nowhere else, and grows."""
    path = prefix.split(".")[:-1]
    around = zip(path[::2], path[1::2], strict=True)
    records = [Hyperparameters, *(COMPONENTS[c][o] for c, o in around if c in COMPONENTS)]
    keys = draw(st.permutations(list(dict.fromkeys(key for record in records for key in record.model_fields))))
    keys = keys[: draw(st.integers(0, 4))]
    later = is_owing and ("", "optimizer") not in taken and draw(st.booleans())
    if is_owing:
        keys = [key for key in keys if key not in {"architecture", "optimizer"}]
        keys = ["optimizer" if later else "architecture", *keys]
    parameters: list[Parameter] = []
    for key in keys:
        owner = find_owner(prefix + key)
        assert owner is not None
        record, component = owner
        if (component, key) in taken or (key == "architecture" and not is_owing):
            continue
        taken.add((component, key))
        domain = find_domain(record, key)
        distribution = _draw_distribution(draw, domain)
        prior = None
        if draw(st.booleans()):
            guess = draw_value(distribution, random.Random(draw(st.integers())))
            prior = Prior(guess=guess, confidence=draw(st.sampled_from(["low", "medium", "high"])))
        parameters.append(Parameter(prefix + key, distribution, condition, prior).checked())
        if domain.takes_alternatives:
            assert isinstance(distribution, Choice)
            before, after = set(taken), set(taken)
            for option in distribution.options:
                branch = set(before)
                inner = f"{prefix}{key}.{option}."
                parameters += _draw_level(
                    draw, inner, (prefix + key, str(option)), branch, is_owing=later and key == "optimizer"
                )
                after |= branch
            taken |= after
    return parameters


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Valid spaces of any depth."""
    return Space(tuple(_draw_level(draw, "", None, set(), is_owing=True)))


FINISHED = st.builds(FinishedSearch, name=NAMES)


@st.composite
def searches(draw: st.DrawFn, among: st.SearchStrategy[Space | FinishedSearch] | None = None) -> SearchSpec:
    """Valid searches, of the given spaces or of any."""
    space = draw(spaces() | FINISHED if among is None else among)
    metric = draw(st.sampled_from(["val_accuracy", "val_loss"]))
    other = "val_loss" if metric == "val_accuracy" else "val_accuracy"
    also = draw(st.lists(st.sampled_from([other, "parameters", "multiply_adds", "seconds"]), unique=True))
    stages = []
    samplers = ["auto", "tpe", "nsga2", "qmc", "random", *([] if also else ["gp"])]
    samplers += ["cmaes"] if isinstance(space, Space) and len(space.flat_ranges) > 1 and not also else []
    samplers += ["grid"] if isinstance(space, Space) and space.count_points() is not None else []
    for i, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))):
        max_epochs = draw(st.integers(1, 100))
        halving = st.builds(
            Halving,
            reduction=st.integers(2, 16),
            min_epochs=st.integers(1, max_epochs),
            min_peers=st.integers(1, 9),
            rule=st.sampled_from(["auto", "forecast", "promise", "rank", "median"]),
            type=st.sampled_from(["auto", "promotion", "stopping"]),
            peers=st.sampled_from(["all", "architecture"]),
            axis=st.sampled_from(["epochs", "seconds", "multiply_adds"]),
            tolerance=st.just("auto") | st.floats(0, 1),
            brackets=st.integers(1, 8),
            audit=st.floats(0, 1) | st.just("auto"),
        )
        can_narrow = i > 0 or isinstance(space, FinishedSearch)
        narrow = st.builds(Narrow, keep=st.floats(0.01, 1), margin=st.floats(0, 1)) if can_narrow else st.nothing()
        stages.append(
            Stage(
                name=name,
                trials=draw(st.integers(1, 1000)),
                max_epochs=max_epochs,
                halving=draw(st.none() | halving),
                sampler=draw(st.sampled_from(samplers)),
                narrow=draw(st.none() | narrow),
            )
        )
    data: dict[str, Any] = {"name": "digits"}
    if draw(st.booleans()):
        data = {"name": "parquet", "path": draw(TEXTS), "label_column": draw(st.none() | TEXTS)}
    gpus = draw(st.just("auto") | st.floats(0, 1) | st.integers(2, 8).map(float))
    first = []
    if isinstance(space, Space):
        first = [draw_part(space, draw(st.integers())) for _ in range(draw(st.integers(0, min(3, stages[0].trials))))]
    return SearchSpec(
        name=draw(NAMES),
        data=DataSpec(**data, validation=draw(st.floats(0.01, 0.99))),
        objective=Objective(metric=metric, mode="max" if metric == "val_accuracy" else "min", also=tuple(also)),
        space=space,
        stages=tuple(stages),
        resources=Resources(
            cpus=draw(st.integers(1, 64)),
            gpus=gpus,
            trials_at_once=draw(st.just("auto") | st.integers(1, 99)),
        ),
        limits=Limits(
            time_s=draw(st.none() | st.floats(1e-3, 1e9)),
            trials=draw(st.none() | st.integers(1, 10**6)),
            epochs=draw(st.none() | st.integers(1, 10**6)),
            gpu_hours=draw(st.none() | st.floats(1e-3, 1e6)) if gpus != 0 else None,
            target=draw(st.none() | st.floats(1e-9, 1 if metric == "val_accuracy" else 10)),
            no_improvement=draw(st.none() | st.integers(1, 1000)),
            failures=draw(st.none() | st.integers(0, 1000)),
        ),
        seed=draw(st.integers(0, 2**32 - 1)),
        tracking=Tracking(mlflow=draw(st.sampled_from(["auto", "off", "http://host:5000", "sqlite:///a b.db"]))),
        tensorboard=TensorBoard(scalars=draw(st.booleans()), graph=draw(st.booleans())),
        notify=draw(st.none() | st.sampled_from(NOTIFY)),
        storage=draw(st.sampled_from(["auto", "postgresql://me@host:5432/tuner"])),
        first=tuple(first),
        warm_start=tuple(draw(st.lists(NAMES.map("past-{}".format), max_size=2, unique=True))),
    )


NOTIFY = [
    Notify(command=("mail", "-s", "1")),
    Notify(webhook="https://host/$KEY", events=("best",)),
    Notify(command=("true",), webhook="$HOOK"),
]


def draw_config(space: Space, seed: int) -> dict[str, Scalar]:
    """Return one point of a space."""
    rng = random.Random(seed)

    return space.walk(lambda parameter: draw_value(parameter.distribution, rng))


def draw_value(distribution: Distribution, rng: random.Random) -> Scalar:
    """Return a value that a distribution can give."""
    match distribution:
        case Choice(options=options):
            return rng.choice(options)
        case Int(low=low, high=high, step=step):
            return rng.randrange(low, high + 1, step)
        case LogInt(low=low, high=high):
            return rng.randint(low, high)
        case Uniform(low=low, high=high, step=float(step)):
            return min(low + step * rng.randint(0, round((high - low) / step)), high)
        case Uniform(low=low, high=high) | LogUniform(low=low, high=high):
            return rng.uniform(low, high)


def draw_part(space: Space, seed: int) -> dict[str, Scalar]:
    """Return a part of one point of a space: with every parameter the choices that it hangs on."""
    rng = random.Random(seed)
    part: dict[str, Scalar] = {}
    for name, value in draw_config(space, seed).items():
        condition = space[name].condition
        if rng.random() < 0.7 and (condition is None or condition[0] in part):
            part[name] = value
    return part
