import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import SpecError
from tuner.spec import (
    Choice,
    FinishedSearch,
    Int,
    Limits,
    LogUniform,
    Narrow,
    Objective,
    Prior,
    Space,
    Uniform,
    dump_training_spec,
    load_spec,
    load_text,
    load_training_spec,
    load_training_text,
)
from tuner.spec.search import AUTO_MAX_EPOCHS, Halving

SEARCH = """\
name: digits
data: {name: digits, validation: 0.2}
space:
  architecture: {choice: {simple_cnn: {depth: {int: [1, 4]}}, lenet: {}}}
  learning_rate: {loguniform: [1e-4, 1.0]}
stages:
  coarse: {trials: 48, max_epochs: 9}
  fine: {trials: 24, max_epochs: 27, halving: none}
"""
TRAINING = """\
name: best
data: digits
config: {architecture: {resnet: {depth: 14}}, learning_rate: 0.1}
epochs: 3
"""


def find_faults(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_text(text, "x.yaml", overrides)
    first, *faults = str(caught.value).split("\n")
    assert first == f"x.yaml: {len(faults)} fault{'s' if len(faults) > 1 else ''}"
    assert all(fault.startswith("  ") for fault in faults)
    return [fault.strip() for fault in faults]


def test_a_search_loads() -> None:
    spec = load_text(SEARCH)
    assert spec.name == "digits"
    assert [stage.name for stage in spec.stages] == ["coarse", "fine"]
    assert isinstance(spec.space, Space)
    assert [parameter.name for parameter in spec.space.parameters] == [
        "architecture",
        "architecture.simple_cnn.depth",
        "learning_rate",
    ]
    assert spec.space["architecture.simple_cnn.depth"].distribution == Int(low=1, high=4)
    assert spec.space["architecture.simple_cnn.depth"].condition == ("architecture", "simple_cnn")
    assert spec.space["learning_rate"].distribution == LogUniform(low=1e-4, high=1.0)


@pytest.mark.parametrize(
    ("key", "text", "prior"),
    [
        ("learning_rate", "{loguniform: [1e-4, 1], prior: 1}", Prior(guess=1.0)),
        ("batch_size", "{int: [32, 64], prior: {guess: 40, confidence: high}}", Prior(guess=40, confidence="high")),
        ("optimizer", "{choice: [sgd, adamw], prior: adamw}", Prior(guess="adamw")),
        ("optimizer", "{choice: {sgd: {momentum: 0.9}, adamw: }, prior: {guess: sgd}}", Prior(guess="sgd")),
        ("optimizer", "{choice: [sgd], prior: sgd}", None),
    ],
)
def test_a_prior_stands_beside_a_distribution(key: str, text: str, prior: Prior | None) -> None:
    space = load_text(SEARCH, overrides=[f"space.{key}={text}"]).space
    assert isinstance(space, Space)
    assert space[key].prior == prior


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{loguniform: [1e-4, 1], prior: 2}", ".prior: the guess must be 0.0001 to 1, found 2"),
        ("{loguniform: [1e-4, 1], prior: high}", ".prior: must be a number above 0 and at most 100, found high"),
        ("{loguniform: [1e-4, 1], prior: {confidence: low}}", ".prior: guess is missing; write guess: "),
        (
            "{loguniform: [1e-4, 1], prior: {guess: 0.1, confidence: sure}}",
            ".prior.confidence: must be one of low, medium or high, found sure",
        ),
        ("{uniform: [0.1, 0.7], step: 0.2, prior: 0.4}", ".prior: the guess must be 0.1 to 0.7 in steps of 0.2, found"),
        ("{loguniform: [1e-4, 1], pior: 2}", ".pior: beside loguniform only step and prior can stand, found pior; did"),
        ("{choice: [0.1, 0.2], prior: 0.3}", ".prior: the guess must be 0.1 or 0.2, found 0.3"),
    ],
)
def test_a_guess_is_a_value_of_its_distribution(text: str, fault: str) -> None:
    (found,) = find_faults(SEARCH, (f"space.learning_rate={text}",))
    assert found.startswith(f"--set space.learning_rate, space.learning_rate{fault}")


def test_a_prior_goes_with_its_guess_when_the_space_is_narrowed() -> None:
    space = load_text(SEARCH, overrides=["space.learning_rate={loguniform: [1e-4, 1], prior: 0.1}"]).space
    assert isinstance(space, Space)
    narrowed = [space.replace({"learning_rate": LogUniform(low=low, high=1.0)}) for low in (0.05, 0.2)]
    assert [one["learning_rate"].prior for one in narrowed] == [Prior(guess=0.1), None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("other", ": must be a list of searches' names, found other; write [NAME]"),
        ("[a, a]", ", warm_start[1]: the search a is given twice; keep one of them"),
        ("[a/b]", ", warm_start[0]: names a folder"),
        ("[digits]", ": a search cannot learn from itself, found digits; name an earlier one"),
    ],
)
def test_a_warm_start_names_other_searches(text: str, fault: str) -> None:
    (found,) = find_faults(SEARCH, (f"warm_start={text}",))
    assert found.startswith(f"--set warm_start{fault}")
    assert load_text(SEARCH, overrides=["warm_start=[a, b]"]).warm_start == ("a", "b")


def test_what_is_tried_first_is_read_as_parts_of_points() -> None:
    text = "try=[{architecture: {simple_cnn: {depth: 2}}, learning_rate: 1}, {architecture: lenet}, {}]"
    assert load_text(SEARCH, overrides=[text]).first == (
        {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 2, "learning_rate": 1.0},
        {"architecture": "lenet"},
        {},
    )


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{learning_rate: 2}", "try[0].learning_rate: must lie in the space, which has 0.0001 to 1, found 2"),
        ("{learning_rate: true}", "try[0].learning_rate: must be a number above 0 and at most 100, found true"),
        ("{batch_size: 33}", "try[0].batch_size: must lie in the space, which has 32 to 64 in steps of 32, found 33"),
        ("{architecture: vgg}", "try[0].architecture: must lie in the space, which has simple_cnn or lenet, found vgg"),
        (
            "{architecture: {vgg: {depth: 16}}}",
            "try[0].architecture: must lie in the space, which has simple_cnn or lenet, found vgg",
        ),
        ("{depth: 3}", "try[0].depth: depth is no hyperparameter here; it belongs under architecture: {choice: "),
        ("{l2: 0.1}", "try[0].l2: is not in the space; allowed: architecture, learning_rate or batch_size; add it "),
        (
            "{architecture: {simple_cnn: {batch_size: 32}}}",
            "try[0].architecture.simple_cnn.batch_size: is not in the space here; it belongs under batch_size: ...",
        ),
        ("{learning_rate: {uniform: [0.1, 1]}}", "try[0].learning_rate: must be a constant, for this is one config"),
        ("3", "try[0]: must be a mapping of hyperparameters, or {}, found 3"),
    ],
)
def test_what_is_tried_first_lies_in_the_space(entry: str, fault: str) -> None:
    overrides = ("space.batch_size={int: [32, 64], step: 32}", f"try=[{entry}]")
    (found,) = find_faults(SEARCH, overrides)
    assert found.startswith(f"--set try, {fault}")


def test_no_more_is_tried_first_than_there_are_trials() -> None:
    (found,) = find_faults(SEARCH, ("stages.coarse.trials=1", "try=[{}, {}]"))
    assert found == (
        "--set try: stage coarse has 1 trials, found 2 configurations to try; give it more trials, or take some out"
    )
    assert find_faults(SEARCH, ("try={learning_rate: 1}",))[0].startswith("--set try: must be a list of config")


def test_the_first_stage_narrows_nothing_and_a_later_one_does() -> None:
    first, second = load_text(SEARCH).stages
    assert first.narrow is None
    assert second.narrow == Narrow()
    assert second.halving is None


def test_a_later_stage_can_have_the_whole_space() -> None:
    assert load_text(SEARCH, overrides=["stages.fine.narrow=none"]).stages[1].narrow is None


def test_a_space_from_a_finished_search_is_narrowed_in_the_first_stage_too() -> None:
    spec = load_text(SEARCH, overrides=["space={from: digits}"])
    assert spec.space == FinishedSearch(name="digits")
    assert spec.stages[0].narrow == Narrow()
    assert load_text(SEARCH, overrides=["space={from: a}", "stages.coarse.narrow=none"]).stages[0].narrow is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("1.5h", 5400), ("600", 600)],
)
def test_a_duration_becomes_seconds(text: str, seconds: float) -> None:
    assert load_text(SEARCH, overrides=[f"limits.time={text}"]).limits.time_s == seconds


def test_limits_that_can_be_reached_are_taken() -> None:
    spec = load_text(SEARCH, overrides=["objective=val_loss", "limits={target: 1.5, gpu_hours: 2, epochs: 100}"])
    assert spec.limits == Limits(target=1.5, gpu_hours=2.0, epochs=100)
    assert load_text(SEARCH, overrides=["limits.target=1"]).limits.target == 1


def test_gpu_hours_are_no_limit_for_trials_without_a_gpu() -> None:
    (fault,) = find_faults(SEARCH, ("resources={gpus: 0}", "limits={gpu_hours: 2, trials: 5}"))
    assert "limits.gpu_hours: trials that have no GPU (resources.gpus: 0) use no GPU hours" in fault


def test_a_target_is_not_held_against_an_objective_that_is_wrong_itself() -> None:
    (fault,) = find_faults(SEARCH, ("objective=val_los", "limits.target=1.5"))
    assert "val_los" in fault


@pytest.mark.parametrize("text", ["val_loss", "{metric: val_loss}", "{metric: val_loss, mode: min}"])
def test_the_mode_follows_from_the_metric(text: str) -> None:
    spec = load_text(SEARCH, overrides=[f"objective={text}"])
    assert spec.objective == Objective(metric="val_loss", mode="min")


@pytest.mark.parametrize("text", ["[val_loss, parameters, seconds]", "{metric: val_loss, also: [parameters, seconds]}"])
def test_further_objectives_follow_the_first(text: str) -> None:
    objective = load_text(SEARCH, overrides=[f"objective={text}"]).objective
    assert objective == Objective(metric="val_loss", mode="min", also=("parameters", "seconds"))


def test_a_list_of_one_objective_is_that_objective() -> None:
    assert load_text(SEARCH, overrides=["objective=[val_loss]"]) == load_text(SEARCH, overrides=["objective=val_loss"])


def test_of_further_objectives_larger_is_better_and_costs_are_compared_by_their_ratios() -> None:
    objective = Objective(also=("val_loss", "parameters", "multiply_adds"))
    loss, parameters, unknown = objective.read_also({"val_loss": 0.5, "parameters": 1000})
    assert (loss, parameters) == (-0.5, pytest.approx(-math.log(1000)))
    assert math.isnan(unknown)


def test_whole_numbers_become_floats_where_floats_are_meant() -> None:
    spec = load_text(SEARCH, overrides=["space.learning_rate={choice: [1, 0.5]}"])
    assert isinstance(spec.space, Space)
    distribution = spec.space["learning_rate"].distribution
    assert isinstance(distribution, Choice)
    assert [type(option) for option in distribution.options] == [float, float]


def test_a_step_divides_as_it_is_written_and_not_as_binary_has_it() -> None:
    spec = load_text(SEARCH, overrides=["space.dropout={uniform: [0.1, 0.4], step: 0.1}"])
    assert isinstance(spec.space, Space)
    assert spec.space["dropout"].distribution == Uniform(low=0.1, high=0.4, step=0.1)


@pytest.mark.parametrize(
    "value", ["resnet", "{resnet: {}}", "{resnet: }", "{choice: [resnet]}", "{choice: {resnet: }}"]
)
def test_one_alternative_can_be_written_in_every_way(value: str) -> None:
    spec = load_text(SEARCH, overrides=[f"space.architecture={value}"])
    assert isinstance(spec.space, Space)
    assert spec.space["architecture"].distribution == Choice(options=("resnet",))


def test_a_fixed_alternative_has_hyperparameters_of_its_own() -> None:
    spec = load_text(SEARCH, overrides=["space.architecture={resnet: {depth: 14}}"])
    assert isinstance(spec.space, Space)
    assert spec.space["architecture.resnet.depth"].condition == ("architecture", "resnet")


def test_the_architecture_may_hang_on_another_choice() -> None:
    value = "{choice: {sgd: {architecture: resnet}, adamw: {architecture: {choice: [lenet, resnet]}}}}"
    text = SEARCH.replace("  architecture: {choice: {simple_cnn: {depth: {int: [1, 4]}}, lenet: {}}}\n", "")
    spec = load_text(text, overrides=[f"space.optimizer={value}"])
    assert isinstance(spec.space, Space)
    assert spec.space["optimizer.sgd.architecture"].condition == ("optimizer", "sgd")


def test_the_architecture_must_be_given_under_every_alternative() -> None:
    text = SEARCH.replace("  architecture: {choice: {simple_cnn: {depth: {int: [1, 4]}}, lenet: {}}}\n", "")
    for value in ("{choice: {sgd: {architecture: resnet}, adamw: {}}}", "{choice: [sgd, adamw]}", "sgd"):
        (fault,) = find_faults(text, (f"space.optimizer={value}",))
        assert "space: architecture is missing, or is not given under every alternative" in fault


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "name: digits\n",
            "nmae: digits\n",
            "line 1, column 1: name is missing; write name: ...: the search's name",
        ),
        (
            "name: digits\n",
            "nmae: digits\n",
            "line 1, column 1, nmae: there is no key nmae here; did you mean name?",
        ),
        ("name: digits\n", "name: a/b\n", "line 1, column 7, name: names a folder"),
        ("name: digits\n", "name: 12\n", "found 12; put it in quotes"),
        (
            "name: digits,",
            "name: digit,",
            "line 2, column 14, data.name: must be one of digits, mnist, fashion_mnist, ",
        ),
        (
            "name: digits,",
            "name: parquet,",
            "line 2, column 7, data: path is missing; the data set parquet is a folder",
        ),
        (
            "name: digits,",
            "name: digits, path: x,",
            "data.path: the data set digits has no path; take it out",
        ),
        ("0.2", "1.5", "data.validation: must be a number above 0 and below 1, found 1.5"),
        (
            "0.2",
            "'0.2'",
            "data.validation: must be a number above 0 and below 1, found 0.2; write it without quotes",
        ),
        (
            "0.2",
            ".nan",
            "data.validation: must be a number above 0 and below 1, found .nan; write a finite number",
        ),
        (
            "lenet: {}",
            "lenett: {}",
            "line 4, column 63, space.architecture.choice.lenett: must be one of simple_cnn, lenet, ",
        ),
        ("lenet: {}", "lenett: {}", "found lenett; did you mean lenet?"),
        ("lenet: {}", "lenet: 3", "must be a mapping of hyperparameters, or {}, found 3"),
        (
            "depth:",
            "dept:",
            "dept is no hyperparameter under architecture.simple_cnn; did you mean depth? Allowed: arch",
        ),
        ("int: [1, 4]", "int: [0, 4]", "depth.int: low must be a whole number from 1 to 8, found [0, 4]"),
        ("int: [1, 4]", "int: [1, 9]", "depth.int: high must be a whole number from 1 to 8, found [1, 9]"),
        ("int: [1, 4]", "int: [4, 1]", "low must be below high, found [4, 1]; write int: [1, 4]"),
        ("int: [1, 4]", "int: [4, 4]", "low must be below high, found [4, 4]; write the constant 4"),
        ("int: [1, 4]", "int: [1, 4, 5]", "must be two numbers, found [1, 4, 5]; write int: [low, high]"),
        ("int: [1, 4]", "int: [1, 4], step: 2", "the step 2 does not divide the range [1, 4]"),
        ("int: [1, 4]", "int: [1, 4], step: 0", "step: must be a whole number above 0, found 0"),
        ("int: [1, 4]", "int: [1.0, 4]", "must be a whole number, found 1.0; write 1"),
        (
            "int: [1, 4]",
            "logint: [0, 4]",
            "low must be above 0, found [0, 4]; write a positive low end, such as 1",
        ),
        (
            "int: [1, 4]",
            "logint: [1, 4], step: 1",
            "a step goes with uniform or int, found beside logint; take it out",
        ),
        (
            "int: [1, 4]",
            "uniform: [1, 4]",
            "uniform does not fit a whole number from 1 to 8, found [1, 4]; write int or logint",
        ),
        (
            "int: [1, 4]",
            "int: [1, 4], logint: [1, 4]",
            "one distribution is allowed, found int and logint; keep one",
        ),
        (
            "int: [1, 4]",
            "integer: [1, 4]",
            "a mapping with int, logint or choice, found {integer: [1, 4]}; did you mean int?",
        ),
        ("int: [1, 4]", "choice: []", "must be a list of options, found []"),
        ("int: [1, 4]", "choice: [1, 1]", "depth.choice[1]: the option 1 is given twice"),
        ("int: [1, 4]", "choice: [1, 9]", "depth.choice[1]: must be a whole number from 1 to 8, found 9"),
        (
            "int: [1, 4]",
            "choice: {1: {}}",
            "only words can have a space of their own, and this is a whole number from 1 to 8",
        ),
        ("{int: [1, 4]}", "[1, 4]", "a list is no value; write depth: {choice: [1, 4]}"),
        ("{int: [1, 4]}", "9", "depth: must be a whole number from 1 to 8, found 9"),
        ("{int: [1, 4]}", "yes", "depth: must be a whole number from 1 to 8, found yes"),
        (
            "depth: {int: [1, 4]}",
            "kernel_size: {int: [1, 3]}",
            "int does not fit one of 1, 3, 5 or 7, found [1, 3]; write choice",
        ),
        ("depth: {int: [1, 4]}", "batch_norm: yes", "must be true or false, found yes; write true"),
        ("depth: {int: [1, 4]}", "kernel_size: 3.0", "must be one of 1, 3, 5 or 7, found 3.0; write 3"),
        ("depth: {int: [1, 4]}", "kernel_size: true", "must be one of 1, 3, 5 or 7, found true"),
        ("depth: {int: [1, 4]}", "batch_norm: {uniform: [0, 1]}", "uniform does not fit true or false"),
        (
            "depth: {int: [1, 4]}",
            "learning_rate: 1",
            "learning_rate is given as space.architecture.choice.simple_cnn.learn",
        ),
        (
            "[1e-4, 1.0]",
            "[0, 1]",
            "low must be above 0, found [0, 1]; write a positive low end, such as 1e-4",
        ),
        ("[1e-4, 1.0]", "[1e-4, 1e3]", "high must be a number above 0 and at most 100, found [1e-4, 1e3]"),
        ("[1e-4, 1.0]", "[1e-4, .inf]", "must be a number, found .inf; write a finite number"),
        ("int: [1, 4]", f"int: [1, 1{'0' * 350}]", "must be a whole number, found 1000"),
        (
            "  learning_rate",
            "  momentum: 0.9\n  learning_rate",
            "belongs under optimizer: {choice: {sgd: {momentum: ...}, rmsprop: ",
        ),
        (
            "  learning_rate",
            "  depth: 3\n  learning_rate",
            "architecture: {choice: {simple_cnn: {depth: ...}, vgg: {depth",
        ),
        (
            "  learning_rate:",
            "  lerning_rate:",
            "line 5, column 3, space.lerning_rate: lerning_rate is no hyperparameter here; did ",
        ),
        (
            "  architecture:",
            "  #",
            "line 5, column 3, space: architecture is missing, or is not given under every alternative",
        ),
        (
            "trials: 48",
            "trials: 4.5",
            "line 7, column 20, stages.coarse.trials: must be a whole number from 1 to 1000000, found 4.5",
        ),
        (
            "trials: 48, ",
            "",
            "stages.coarse: trials is missing; write trials: ... (a whole number from 1 to 1000000)",
        ),
        (
            "max_epochs: 9",
            "max_epochs: 9, narrow: {}",
            "stages.coarse.narrow: the first stage has none before it to narrow",
        ),
        (
            "max_epochs: 9",
            "max_epochs: 9, halving: {min_epochs: 10}",
            "must be at most max_epochs, which is 9, found 10",
        ),
        ("max_epochs: 9", "max_epochs: auto, halving: none", "auto needs halving; write a number"),
        ("max_epochs: 9", "max_epochs: later", "must be auto or a whole number from 1 to 100000, found later"),
        (
            "max_epochs: 9",
            "max_epochs: 9, halving: {grow: true, rule: promise}",
            "a last rung that grows needs rule rank and type promotion; leave those two out",
        ),
        (
            "max_epochs: 9",
            "max_epochs: 9, halving: off",
            "must be none, or a mapping with the keys rule, type, reduction, min_epochs,",
        ),
        (
            "max_epochs: 9",
            "max_epochs: 9, sampler: tp",
            "must be one of auto, gp, tpe, nsga2, cmaes, qmc, grid or random, found tp; did you mean tpe?",
        ),
        ("  coarse:", "  co.arse:", "a stage's name has letters, digits, - and _, at most 64, found co.arse"),
    ],
)
def test_a_fault_says_where_what_and_how(old: str, new: str, fault: str) -> None:
    assert old in SEARCH
    assert any(fault in found for found in find_faults(SEARCH.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("resources.gpus=1.5", "must be auto, a share below 1 or a whole number, found 1.5; write 1 or 2"),
        ("resources.gpus=-1", "must be auto or a number of at least 0, found -1"),
        ("resources.trials_at_once=0", "must be auto or a whole number of at least 1, found 0"),
        ("resources=3", "must be a mapping with the keys cpus, gpus, workers and trials_at_once, found 3"),
        ("limits.time=30x", "must be a duration above 0, found 30x; write 90s"),
        ("limits.time=0", "must be a duration above 0, found 0"),
        ("limits.time_s=30", "there is no key time_s here; did you mean time?"),
        ("limits.trials=0", "must be a whole number of at least 1, found 0"),
        (f"limits.trials=1{'0' * 350}", "0...; write a number of fewer digits"),
        ("limits.epochs=1e3", "must be a whole number of at least 1, found 1e3; write 1000"),
        ("limits.gpu_hours=0", "must be a number above 0, found 0"),
        ("limits.no_improvement=-1", "must be a whole number of at least 1, found -1"),
        ("limits.target=0", "must be a number above 0, found 0"),
        ("limits.target=99", "must be at most 1, for val_accuracy is a fraction, found 99; write 0.99"),
        ("limits.epoch=3", "there is no key epoch here; did you mean epochs?"),
        ("seed=-1", "must be a whole number of at least 0 and below 4294967296, found -1"),
        ("objective.mode=min", "must be max for val_accuracy, found min; it can be left out"),
        (
            "objective=val_los",
            "must be one of val_accuracy or val_loss, found val_los; did you mean val_loss?",
        ),
        ("objective=[]", "must name a metric or more, found []; write [val_accuracy, parameters]"),
        ("objective=[parameters, val_accuracy]", "must be one of val_accuracy or val_loss, found parameters"),
        (
            "objective=[val_accuracy, size]",
            "must be one of val_accuracy, val_loss, parameters, multiply_adds or seconds, found size",
        ),
        ("objective=[val_accuracy, seconds, seconds]", "seconds is there already; take it out"),
        ("objective=[val_loss, val_loss]", "val_loss is the first objective already; take it out"),
        ("objective={also: [val_accuracy]}", "val_accuracy is the first objective already; take it out"),
        ("objective={also: seconds}", "must be a list of metrics, found seconds; write [parameters]"),
        ("tracking.mlflow=./mlruns", "must be auto, off or an address such as http://host:5000"),
        ("tracking.wandb=''", "tracking.wandb: is empty; name a project, or write off"),
        ("space={from: digits, l2: 0}", "beside from nothing can stand"),
        ("space={from: ../x}", "names a folder"),
        ("stages={}", "must be a mapping from a stage's name to its settings, found {}"),
        ("stages.corse.trials=3", "no stage is called corse; did you mean coarse?"),
        ("stages.coarse.trails=3", "there is no key trails here; did you mean trials?"),
        ("dat.path=3", "there is no key dat here; did you mean data?"),
        (
            "space.learning_rate.loguniform.0=1",
            "there is nothing below space.learning_rate.loguniform, which is [1e-4, 1.0]",
        ),
        ("seed", "must be a key path, = and a value; write --set stages.coarse.trials=4"),
        ("=3", "must be a key path, = and a value"),
        ("seed=[", "not YAML"),
        ("seed=!!python/name:os.system", "tags are not allowed"),
    ],
)
def test_a_fault_of_an_override_names_it_instead_of_a_line(override: str, fault: str) -> None:
    faults = find_faults(SEARCH, (override,))
    assert any(fault in found for found in faults)
    assert all(found.startswith(f"--set {override.partition('=')[0]}") for found in faults)


def test_all_faults_of_a_file_come_at_once_in_its_order() -> None:
    text = SEARCH.replace("0.2", "2").replace("[1e-4, 1.0]", "[0, 1]").replace("trials: 48", "trials: 0")
    faults = find_faults(text, ("seed=x",))
    places = [re.match(r"line (\d+)|--set", fault) for fault in faults]
    assert [place and place[1] for place in places] == ["2", "5", "7", None]


def test_faults_beyond_what_can_be_read_are_counted() -> None:
    extra = "".join(f"key_{i}: 1\n" for i in range(60))
    with pytest.raises(SpecError) as caught:
        load_text(SEARCH + extra, "x.yaml")
    lines = str(caught.value).split("\n")
    assert lines[0] == "x.yaml: 60 faults"
    assert lines[-1] == "  and 10 more"


def test_overrides_make_what_is_missing_and_the_last_one_counts() -> None:
    spec = load_text(
        SEARCH,
        overrides=[
            "data.name=parquet",
            "data.path=../x=y",
            "resources.cpus=2",
            "stages.coarse.trials=3",
            "stages.coarse.trials=4",
            "space.architecture.choice.lenet.activation={choice: [tanh, relu]}",
            "stages.last={trials: 1, max_epochs: 81, halving: none}",
        ],
    )
    assert spec.data.path == "../x=y"
    assert spec.resources.cpus == 2
    assert spec.stages[0].trials == 4
    assert spec.stages[2].name == "last"
    assert isinstance(spec.space, Space)
    assert spec.space["architecture.lenet.activation"].condition == ("architecture", "lenet")


def test_an_override_goes_below_a_shorthand() -> None:
    text = SEARCH.replace("{name: digits, validation: 0.2}", "digits")
    assert load_text(text, overrides=["data.validation=0.5"]).data.validation == 0.5
    spec = load_text(text + "objective: val_loss\n", overrides=["objective.mode=min"])
    assert spec.objective.metric == "val_loss"


@pytest.mark.parametrize("where", ["file", "override"])
def test_a_password_is_refused_and_not_shown(where: str) -> None:
    address = "https://me:hunter2@host:5000"
    text = SEARCH + f"tracking: {{mlflow: '{address}'}}\n" if where == "file" else SEARCH
    overrides = (f"tracking.mlflow={address}",) if where == "override" else ()
    faults = find_faults(text, overrides)
    assert "MLFLOW_TRACKING_PASSWORD" in faults[0]
    assert "hunter2" not in "".join(faults)


@pytest.mark.parametrize("store", ["auto", "off", "http://host:5000", "sqlite:///a.db", "postgresql://me@host/db"])
def test_an_address_without_a_password_is_taken(store: str) -> None:
    assert load_text(SEARCH, overrides=[f"tracking.mlflow={store}"]).tracking.mlflow == store


@pytest.mark.parametrize(
    "address", ["postgresql://me:hunter2@host/db", "postgres://host/db?password=hunter2", "postgresql://me:hun/ter2@h"]
)
def test_a_password_of_the_ledger_is_refused_and_not_shown(address: str) -> None:
    faults = find_faults(SEARCH, (f"storage={address}",))
    assert "TUNER_STORAGE" in faults[0]
    assert "ter2" not in "".join(faults)


def test_the_ledger_is_a_file_or_in_postgresql() -> None:
    assert load_text(SEARCH).storage == "auto"
    assert load_text(SEARCH, overrides=["storage=postgresql://me@host/db"]).storage == "postgresql://me@host/db"
    assert "must be auto or an address such as postgresql://" in find_faults(SEARCH, ("storage=mysql://host/db",))[0]


def test_a_sampler_of_one_objective_is_refused_where_there_are_several() -> None:
    overrides = ("objective=[val_accuracy, parameters]", "stages.fine.sampler=gp")
    (fault,) = find_faults(SEARCH, overrides)
    assert "stages.fine.sampler: gp models one objective, and here are 2; write tpe, nsga2, qmc or random" in fault
    assert load_text(SEARCH, overrides=overrides[1:]).stages[1].sampler == "gp"


def test_cmaes_needs_two_ranges() -> None:
    overrides = ("stages.fine.sampler=cmaes", "space={architecture: {resnet: {depth: {choice: [8, 14]}}}, l2: 0.1}")
    (fault,) = find_faults(SEARCH, overrides)
    assert "stages.fine.sampler: cmaes models the ranges that exist whatever is chosen, and needs 2, found 0" in fault
    ranges = "space={architecture: {simple_cnn: {depth: {int: [1, 4]}}}, l2: {uniform: [0, 0.1]}}"
    assert load_text(SEARCH, overrides=[overrides[0], ranges]).stages[1].sampler == "cmaes"


def test_a_continuous_range_has_no_grid() -> None:
    space = (
        "space={architecture: {choice: {lenet: {}, simple_cnn: {}}}, optimizer: {sgd: {momentum: {uniform: [0, 0.9]}}}}"
    )
    (fault,) = find_faults(SEARCH, ("stages.fine.sampler=grid", space))
    assert (
        "space.optimizer.sgd.momentum: a continuous range has no grid; write a choice or uniform with a step" in fault
    )
    faults = find_faults(SEARCH, ("stages.fine.sampler=grid", "space.dropout={choice: [0, 0.5]}"))
    assert [fault.split(": ")[0].split()[-1] for fault in faults] == ["space.learning_rate"]


def find_warnings(*overrides: str) -> list[str]:
    warnings: list[str] = []
    load_text(SEARCH, "x.yaml", overrides, warnings.append)
    return warnings


def test_a_sensible_search_has_no_warnings() -> None:
    assert find_warnings() == []


def test_too_few_trials_for_halving_are_warned_of() -> None:
    assert find_warnings("stages.coarse.trials=8") == [
        "x.yaml: line 7, column 3, stages.coarse: halving with reduction 3 means little for 8 trials; "
        "give it 9 or more, or write halving: none"
    ]
    assert find_warnings("stages.coarse.trials=9") == []
    assert find_warnings("stages.coarse.trials=8", "stages.coarse.halving={reduction: 2}") == []


def test_a_length_that_is_left_open_is_a_last_rung_that_grows() -> None:
    stage = load_text(SEARCH, overrides=["stages.coarse.max_epochs=auto"]).stages[0]
    assert stage.max_epochs == AUTO_MAX_EPOCHS
    assert stage.halving == Halving(grow=True)
    given = load_text(SEARCH, overrides=["stages.coarse.max_epochs=auto", "stages.coarse.halving={reduction: 4}"])
    assert given.stages[0].halving == Halving(reduction=4, grow=True)


def test_what_a_rule_does_not_heed_is_warned_of() -> None:
    (warning,) = find_warnings("stages.coarse.halving={peers: architecture, tolerance: auto}")
    assert "peers and tolerance: without effect with rule promise; write rule: rank" in warning
    several = "objective=[val_accuracy, parameters]"
    assert find_warnings("stages.coarse.halving={peers: architecture, tolerance: auto}", several) == []
    (warning,) = find_warnings("stages.coarse.halving={rule: promise, peers: architecture}", several)
    assert "stages.coarse: peers: without effect with rule promise" in warning
    (warning,) = find_warnings("stages.coarse.halving={rule: median, axis: seconds}")
    assert "axis: without effect with rule median" in warning
    assert find_warnings("stages.coarse.halving={axis: seconds}") == []
    assert find_warnings("stages.coarse.halving={rule: rank, peers: architecture, axis: multiply_adds}") == []


def test_halving_without_a_rung_is_warned_of() -> None:
    (warning,) = find_warnings("stages.coarse.max_epochs=1")
    assert "stages.coarse: min_epochs and max_epochs are both 1, so nothing is stopped early" in warning
    (warning,) = find_warnings("stages.coarse.max_epochs=2")
    assert "so nothing is stopped early; write max_epochs: 3 or more, or halving: none" in warning
    assert find_warnings("stages.coarse.max_epochs=3") == []
    (warning,) = find_warnings("stages.coarse.max_epochs=8", "stages.coarse.halving={min_epochs: 3}")
    assert warning.endswith(
        "stages.coarse: with reduction 3 no rung lies between min_epochs, 3, and max_epochs, 8, so nothing is stopped "
        "early; write min_epochs: 2 or less, or halving: none"
    )
    assert find_warnings("stages.coarse.max_epochs=8", "stages.coarse.halving={min_epochs: 2}") == []


def test_a_search_in_which_nothing_varies_is_warned_of() -> None:
    (warning,) = find_warnings("space={architecture: lenet}")
    assert "nothing varies" in warning


def test_losses_that_cannot_be_compared_are_warned_of() -> None:
    (warning,) = find_warnings("objective=val_loss", "space.architecture={choice: [lenet, hog_svm]}")
    assert "objective: the loss of hog_svm is a hinge loss" in warning
    assert find_warnings("objective=[val_accuracy, val_loss]", "space.architecture={choice: [lenet, hog_svm]}")
    assert find_warnings("objective=val_accuracy", "space.architecture={choice: [lenet, hog_svm]}") == []
    assert find_warnings("objective=val_loss", "space.architecture=hog_svm") == []


def test_a_grid_of_fewer_points_than_trials_is_warned_of() -> None:
    space = "space={architecture: {simple_cnn: {depth: {int: [1, 4]}, width: {logint: [8, 12]}}}}"
    (warning,) = find_warnings("stages.coarse.sampler=grid", "stages.coarse.trials=21", space)
    assert "stages.coarse: the grid has 20 points, so the stage ends after 20 of 21 trials" in warning
    assert find_warnings("stages.coarse.sampler=grid", "stages.coarse.trials=20", space) == []


def test_a_training_has_one_objective() -> None:
    with pytest.raises(SpecError, match=r"a training has one objective, found \[val_loss, parameters\]"):
        load_training_text(TRAINING, overrides=["objective=[val_loss, parameters]"])


def test_a_training_loads() -> None:
    spec = load_training_text(TRAINING, overrides=["config.optimizer={sgd: {momentum: 0}}"])
    assert spec.config == {
        "architecture": "resnet",
        "architecture.resnet.depth": 14,
        "learning_rate": 0.1,
        "optimizer": "sgd",
        "optimizer.sgd.momentum": 0.0,
    }
    assert load_training_text(dump_training_spec(spec)) == spec


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("config.learning_rate={loguniform: [1e-3, 1]}", "--set config.learning_rate: must be a constant"),
        ("config.depth=3", "--set config.depth: depth is no hyperparameter here"),
        ("epochs=0", "--set epochs: must be a whole number from 1 to 100000, found 0"),
        ("epoch=1", "--set epoch: there is no key epoch here; did you mean epochs?"),
    ],
)
def test_a_faulty_training_is_refused(override: str, fault: str) -> None:
    with pytest.raises(SpecError, match=re.escape(fault)):
        load_training_text(TRAINING, "x.yaml", [override])


def test_each_kind_of_file_names_the_command_for_the_other() -> None:
    with pytest.raises(SpecError, match=r"x\.yaml: this is a training file.*tuner train x\.yaml"):
        load_text(TRAINING, "x.yaml")
    with pytest.raises(SpecError, match=r"x\.yaml: this is a search file.*tuner run x\.yaml"):
        load_training_text(SEARCH, "x.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.yaml: 1 fault\n  line 1, column 1: the file must be a mapping .* found nothing"),
        (b"- a\n", r"must be a mapping that begins with name: \.\.\., found \[a\]"),
        (b"just words", r"must be a mapping that begins with name: \.\.\., found \"just words\""),
        (
            b"a: 1\nb: caf\xe9",
            r"line 2, column 7: the text must be UTF-8, found the byte 0xe9; save the file as UTF-8",
        ),
        (b"\x89PNG\r\n\x1a\n", r"line 1, column 1: the text must be UTF-8, found the byte 0x89"),
        (b"a" * 2**21, r"at most 262144 bytes are allowed, found more"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    for load in (load_spec, load_training_spec):
        with pytest.raises(SpecError, match=message):
            load(path)


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SEARCH.replace("\n", "\r\n").encode())
    assert load_spec(path) == load_text(SEARCH)


def test_a_missing_file_is_looked_for_nearby(tmp_path: Path) -> None:
    (tmp_path / "coarse.yaml").write_text(SEARCH)
    with pytest.raises(SpecError, match=r"corse\.yaml: there is no such file; did you mean .*coarse\.yaml\?"):
        load_spec(tmp_path / "corse.yaml")
    with pytest.raises(SpecError, match="there is no such file, nor a folder"):
        load_spec(tmp_path / "nowhere" / "x.yaml")


def test_a_folder_is_refused_and_a_file_in_it_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="this is a folder without a YAML file"):
        load_spec(tmp_path)
    (tmp_path / "coarse.yaml").write_text(SEARCH)
    with pytest.raises(SpecError, match=r"this is a folder; name a file in it, such as .*coarse\.yaml"):
        load_spec(tmp_path)


def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="this file cannot be read"):
        load_spec(tmp_path / ("x" * 5000))


PIECES = st.sampled_from(
    [
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "\n",
        "  ",
        "\t",
        "-",
        "1",
        "null",
        "&a",
        "*a",
        "choice",
        "resnet",
        "'",
        "#",
        "\u00e9",
        "none",
    ]
)


@settings(max_examples=200)
@given(st.integers(0, len(SEARCH)), st.integers(0, 12), st.lists(PIECES, max_size=4))
def test_a_damaged_file_loads_or_is_refused_and_never_crashes(at: int, length: int, pieces: list[str]) -> None:
    text = SEARCH[:at] + "".join(pieces) + SEARCH[at + length :]
    message = ""
    try:
        load_text(text)
    except SpecError as error:
        message = str(error)
    assert re.match(r"$|the search: (\d+ faults?\n|this is)", message)
