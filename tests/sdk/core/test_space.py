from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.core.recipe import PassSpec
from edgeopt.core.space import Choice, OpenPass, Space, Trial
from edgeopt.errors import UsageError

SPACE = Space(
    "forms",
    (
        Choice("scale", (None, 0.5)),
        Choice("storage", ("float32", "int8")),
        Choice("method", ("minmax", "mse"), when={"storage": ("int8",)}),
        Choice("width", (1.0, 0.75, 0.5)),
    ),
    (
        OpenPass("resize_input", {"scale": "$scale"}),
        OpenPass("distil_student", {"student": "nets.py:make(width=$width, n=2)", "epochs": {"trial": 3, "final": 30}}),
        OpenPass("prune_channels", {"stages": ["$width", 1.0], "nested": {"deep": "$width"}}),
        OpenPass("simplify"),
        OpenPass("quantise_static", {"calibrator": "$method"}),
        OpenPass("pack_weights", when={"storage": ("int8",), "method": ("mse",)}),
    ),
    precision="$storage",
)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Up to six choices, each of which may depend on any before it."""
    choices: list[Choice] = []
    for place in range(draw(st.integers(0, 6))):
        before = draw(st.lists(st.sampled_from(choices), max_size=3, unique_by=lambda one: one.name)) if choices else []
        when = {one.name: tuple(draw(st.lists(st.sampled_from(one.values), min_size=1, unique=True))) for one in before}
        choices.append(Choice(f"c{place}", (None, 1, 2.5, 7)[: draw(st.integers(1, 4))], when))
    return Space("drawn", tuple(choices), ())


def every_point(space: Space, place: int = 0, point: dict | None = None) -> list[dict]:
    point = point or {}
    if place == len(space.choices):
        return [point]
    choice = space.choices[place]
    ways = [{**point, choice.name: value} for value in choice.values] if choice.asked(point) else [point]
    return [one for way in ways for one in every_point(space, place + 1, way)]


@settings(max_examples=100, deadline=None)
@given(spaces(), st.data())
def test_points_are_counted_as_they_are_listed(space, data):
    points = every_point(space)
    assert space.size() == len(points)
    assert all(point in space for point in points)
    held = data.draw(st.sampled_from(points))
    held = {name: held[name] for name in list(held)[: data.draw(st.integers(0, len(held)))]}
    assert space.size(held) == sum(held.items() <= point.items() for point in points)


@settings(max_examples=100, deadline=None)
@given(spaces())
def test_neighbours_are_points_and_lead_everywhere(space):
    reached, border = set(), [space.gentlest()]
    while border:
        point = border.pop()
        assert point in space
        if (key := frozenset(point.items())) not in reached:
            reached.add(key)
            border += space.neighbours(point)
    assert len(reached) == space.size()


def test_a_million_million_points_are_counted_at_once():
    free = tuple(Choice(f"c{place}", tuple(range(10))) for place in range(12))
    tied = tuple(Choice(f"d{place}", (1, 2), when={f"c{place}": (3,)}) for place in range(6))
    assert Space("large", free, ()).size() == 10**12
    assert Space("tied", (*free, *tied), ()).size() == 11**6 * 10**6


def test_the_gentlest_point_has_first_values_and_answers_no_question_that_is_not_asked():
    assert SPACE.gentlest() == {"scale": None, "storage": "float32", "width": 1.0}


def test_wishes_count_where_they_are_allowed():
    wished = SPACE.completed({"storage": "int8", "method": "mse", "width": 3.0, "other": 1})
    assert wished == {"scale": None, "storage": "int8", "method": "mse", "width": 1.0}
    assert "method" not in SPACE.completed({"method": "mse"})


def test_a_point_with_too_little_too_much_or_what_is_not_allowed_is_not_in_the_space():
    point = SPACE.gentlest()
    assert point in SPACE
    for other in ({}, {**point, "method": "mse"}, {**point, "width": 0.3}, {**point, "storage": "int8"}):
        assert other not in SPACE


def test_neighbours_differ_by_one_step_and_ask_what_is_new():
    assert SPACE.neighbours(SPACE.completed({"width": 0.75})) == (
        {"scale": 0.5, "storage": "float32", "width": 0.75},
        {"scale": None, "storage": "int8", "method": "minmax", "width": 0.75},
        {"scale": None, "storage": "float32", "width": 0.5},
        {"scale": None, "storage": "float32", "width": 1.0},
    )


def test_a_recipe_has_the_values_of_its_point_and_leaves_out_what_has_none():
    trial = SPACE.recipe(SPACE.completed({"width": 0.75}), "forms-1")
    assert trial.name == "forms-1"
    assert trial.precision == "float32"
    assert trial.passes == (
        PassSpec("distil_student", {"student": "nets.py:make(width=0.75, n=2)", "epochs": 3}),
        PassSpec("prune_channels", {"stages": [0.75, 1.0], "nested": {"deep": 0.75}}),
        PassSpec("simplify", {}),
    )


def test_a_pass_that_is_left_out_while_searching_is_left_out_in_the_end():
    one = OpenPass("distil", {"epochs": {"trial": "$epochs", "final": 30}})
    space = Space("s", (Choice("epochs", (None, 3)),), (one,))
    assert (
        space.recipe({"epochs": None}, "s-1").passes == space.recipe({"epochs": None}, "s-1", final=True).passes == ()
    )


def test_conditions_references_and_precision_follow_the_point():
    point = SPACE.completed({"scale": 0.5, "storage": "int8", "method": "mse"})
    final = SPACE.recipe(point, "forms-2", final=True)
    assert final.precision == "int8"
    assert [spec.name for spec in final.passes][-2:] == ["quantise_static", "pack_weights"]
    assert final.passes[0] == PassSpec("resize_input", {"scale": 0.5})
    assert final.passes[1].options["epochs"] == 30
    assert final.passes[-2].options == {"calibrator": "mse"}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("a b", (1,), "choice is called 'a b'"),
        ("", (1,), "choice is called ''"),
        ("a", (), "'a' has no values"),
        ("a", (1.0, math.nan), "'a' has the value nan"),
        ("a", (math.inf,), "'a' has the value inf"),
        ("a", (1, "2"), r"mixes numbers and text: \[1, '2'\]"),
        ("a", (True, 2), "mixes numbers and yes or no"),
        ("a", (0.5, 1, 1.0), "'a' has 1 twice"),
        ("a", (None, None), "'a' has None twice"),
    ],
)
def test_a_choice_refuses_values_that_mean_nothing(name, values, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        Choice(name, values)
    assert caught.value.remedy


A, B = Choice("a", (1, 2)), Choice("b", (1, 2))


@pytest.mark.parametrize(
    ("choices", "passes", "precision", "reason"),
    [
        ((A, A), (), "float32", "two choices are called 'a'"),
        ((Choice("a", (1,), {"b": (1,)}), B), (), "float32", r"condition of choice 'a' names 'b'.*before it: none"),
        ((A, B), (OpenPass("p", {"x": ["$c"]}),), "float32", r"pass 'p' names 'c'.*the choices: a, b"),
        ((A,), (OpenPass("p", {}, {"c": (1,)}),), "float32", "condition of pass 'p' names 'c'"),
        ((A,), (), "$c", "the precision names 'c'"),
    ],
)
def test_a_space_refuses_what_refers_to_nothing(choices, passes, precision, reason):
    with pytest.raises(UsageError, match=reason):
        Space("s", choices, passes, precision)


def test_a_trial_has_run_where_there_are_objectives():
    trial = Trial(1, {"width": 0.5, "scale": None}, (1.0, 0.1), 0.0)
    assert trial.measured
    assert not Trial(1, {}).measured
    assert Trial(1, {}).excess == math.inf
    assert trial.chosen == "width 0.5"
    assert Trial(1, {"scale": None}).chosen == "nothing changed"
