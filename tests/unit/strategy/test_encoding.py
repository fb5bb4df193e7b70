import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import spaces

from tuner.spec.space import Choice, Int, LogInt, LogUniform, Parameter, Space, Uniform
from tuner.strategy.draws import draw
from tuner.strategy.encoding import MIDDLE, Encoding


@settings(max_examples=100)
@given(st.data())
def test_a_config_comes_back_from_its_point(data: st.DataObject) -> None:
    space = data.draw(spaces())
    encoding, rng = Encoding(space), np.random.default_rng(data.draw(st.integers(0, 1000)))
    for config in (draw(space, rng) for _ in range(5)):
        (point,) = encoding.encode([config])
        again = encoding.decode(point)
        assert again.keys() == config.keys()
        for name, value in config.items():
            assert again[name] == value or np.isclose(float(again[name]), float(value), rtol=1e-9)


@settings(max_examples=100)
@given(st.data())
def test_any_numbers_snap_to_the_point_of_a_config(data: st.DataObject) -> None:
    space = data.draw(spaces())
    encoding, rng = Encoding(space), np.random.default_rng(data.draw(st.integers(0, 1000)))
    snapped = encoding.snap(rng.normal(0.5, 0.6, size=(8, len(encoding.parameters))))
    np.testing.assert_allclose(snapped, encoding.encode([encoding.decode(point) for point in snapped]), atol=1e-9)
    np.testing.assert_allclose(encoding.snap(snapped), snapped, atol=1e-9)


def test_the_corners_of_the_cube_are_the_very_ends_of_all_ranges() -> None:
    space = Space(
        (
            Parameter("family", Choice(options=("a", "b", "c"))),
            Parameter("x", Uniform(low=-1, high=0.3)),
            Parameter("rate", LogUniform(low=1e-5, high=0.7)),  # whose logarithm does not lead back to it
            Parameter("share", Uniform(low=0.0, high=0.6, step=0.1)),
            Parameter("depth", Int(low=1, high=4)),
            Parameter("width", LogInt(low=1, high=100)),
        )
    )
    encoding = Encoding(space)
    lowest, highest = (encoding.decode(point) for point in encoding.snap(np.array([[-9.0] * 6, [9.0] * 6])))
    assert lowest == {"family": "a", "x": -1, "rate": 1e-5, "share": 0.0, "depth": 1, "width": 1}
    assert highest == {"family": "c", "x": 0.3, "rate": 0.7, "share": 0.6, "depth": 4, "width": 100}
    assert encoding.decode(np.ones(6)) == highest


def test_coordinates_are_shares_and_what_does_not_exist_lies_in_the_middle() -> None:
    space = Space(
        (
            Parameter("family", Choice(options=("a", "b"))),
            Parameter("family.b.rate", LogUniform(low=1e-4, high=1.0), ("family", "b")),
            Parameter("x", Uniform(low=-1, high=3)),
            Parameter("depth", Int(low=1, high=4)),
            Parameter("width", LogInt(low=1, high=100)),
            Parameter("constant", Choice(options=(7,))),
        )
    )
    encoding = Encoding(space)
    assert [parameter.name for parameter in encoding.parameters] == ["family", "family.b.rate", "x", "depth", "width"]
    assert encoding.is_choice.tolist() == [True, False, False, False, False]
    with_b, without = encoding.encode(
        [
            {"family": "b", "family.b.rate": 1e-1, "x": 0.0, "depth": 4, "width": 1, "constant": 7},
            {"family": "a", "x": 3.0, "depth": 1, "width": 100, "constant": 7},
        ]
    )
    np.testing.assert_allclose(with_b[:4], [0.75, 0.75, 0.25, 0.875])
    np.testing.assert_allclose(without[:4], [0.25, MIDDLE, 1.0, 0.125])
    assert 0 < with_b[4] < 0.15
    assert 0.99 < without[4] < 1


def test_a_config_that_is_gone_is_not_taken_for_the_one_that_has_its_place_in_memory() -> None:
    encoding = Encoding(Space((Parameter("x", Uniform(low=0, high=1)),)))
    points = [encoding.encode([{"x": i / 20}])[0, 0] for i in range(20)]
    np.testing.assert_allclose(points, np.arange(20) / 20)
