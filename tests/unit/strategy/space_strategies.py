"""Random spaces and random pasts of a stage, as hypothesis strategies."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tuner.spec.space import Choice, Distribution, Int, LogInt, LogUniform, Parameter, Prior, Space, Uniform
from tuner.strategy.draws import at, draw
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView

STATES = ("running", "complete", "stopped", "diverged", "failed")


@st.composite
def _uniforms(draw_: st.DrawFn) -> Uniform:
    low = draw_(st.integers(-100, 100)) / 10
    if draw_(st.booleans()):
        return Uniform(low=low, high=low + draw_(st.integers(1, 200)) / 10)
    step = draw_(st.sampled_from((0.1, 0.25, 0.5, 2.0)))
    return Uniform(low=low, high=round(low + draw_(st.integers(1, 12)) * step, 10), step=step)


@st.composite
def _log_uniforms(draw_: st.DrawFn) -> LogUniform:
    exponent = draw_(st.integers(-8, 3))
    return LogUniform(low=10.0**exponent, high=10.0 ** (exponent + draw_(st.integers(1, 5))))


@st.composite
def _ints(draw_: st.DrawFn) -> Int:
    low, step = draw_(st.integers(-20, 20)), draw_(st.integers(1, 5))
    return Int(low=low, high=low + step * draw_(st.integers(1, 12)), step=step)


@st.composite
def _log_ints(draw_: st.DrawFn) -> LogInt:
    low = draw_(st.integers(1, 20))
    return LogInt(low=low, high=low + draw_(st.integers(1, 300)))


confidences = st.sampled_from(("low", "medium", "high"))
choices = st.sampled_from(
    (
        Choice(options=("relu", "tanh")),
        Choice(options=(8, 14, 20, 26)),
        Choice(options=(0, False, 0.5, "0")),
        Choice(options=(True, False)),
        Choice(options=("alone",)),
    )
)
ranges: st.SearchStrategy[Distribution] = st.one_of(_uniforms(), _log_uniforms(), _ints(), _log_ints())
distributions: st.SearchStrategy[Distribution] = st.one_of(ranges, choices)


@st.composite
def spaces(draw_: st.DrawFn) -> Space:
    """A space two conditions deep, with any of its parts missing."""
    parameters = [Parameter(f"flat{i}", draw_(distributions)) for i in range(draw_(st.integers(0, 3)))]
    if draw_(st.booleans()) or not parameters:
        parameters.append(Parameter("family", Choice(options=("plain", "deep", "bare"))))
        inner = Choice(options=("thin", "thick"))
        parameters.append(Parameter("family.deep.kind", inner, ("family", "deep")))
        parameters += [
            Parameter("family.plain.size", draw_(distributions), ("family", "plain")),
            Parameter("family.deep.size", draw_(distributions), ("family", "deep")),
            Parameter("family.deep.kind.thick.size", draw_(distributions), ("family.deep.kind", "thick")),
        ]
    return Space(tuple(_add_prior(draw_, parameter) for parameter in parameters))


def _add_prior(draw_: st.DrawFn, parameter: Parameter) -> Parameter:
    if draw_(st.integers(0, 3)):
        return parameter
    guess = at(parameter.distribution, draw_(st.floats(0, 1, exclude_max=True)))
    return replace(parameter, prior=Prior(guess=guess, confidence=draw_(confidences))).checked()


@st.composite
def pasts(draw_: st.DrawFn, space: Space, states: tuple[str, ...] = STATES, max_size: int = 40) -> list[TrialView]:
    """Trials of a stage of 9 epochs in any state, some of them carried."""
    rng = np.random.default_rng(draw_(st.integers(0, 2**32)))
    trials = []
    for number in range(draw_(st.integers(0, max_size))):
        state = str(rng.choice(states))
        length = {"complete": 9, "stopped": int(rng.choice((1, 3)))}.get(state, int(rng.integers(0, 9)))
        values = tuple(np.maximum.accumulate(rng.integers(0, 50, length) / 50).tolist())
        if state == "diverged":
            values = (*values, math.nan)
        trials.append(
            TrialView(
                number,
                draw(space, rng),
                values,
                state,
                str(rng.choice(("", STAGE_BEFORE, "another"), p=(0.8, 0.1, 0.1))),
            )
        )
    return trials
