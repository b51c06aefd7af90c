"""Keys are equal exactly where a result may be reused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.plan import QUICK, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.core.variant import Provenance
from edgeopt.store.keys import Conditions, exact_key, measurement_key, variant_key

RECIPE = Recipe("int8", (PassSpec("quantise", {"calibrator": "entropy", "percentile": 99.9}),), "int8", recover=True)
MADE = Provenance("a" * 64, RECIPE, "b" * 64, {"onnx": "1.19", "onnxruntime": "1.32"}, seed=0)
CONDITIONS = Conditions("a" * 64, "board", "1.32", "runner", Settings(), QUICK, "golden", 0.99, "evaluation", "top1")


def key(made: Provenance = MADE, isa: tuple[str, ...] = ("avx2",), max_drop: float | None = 0.01) -> str:
    return variant_key(made, isa=isa, max_drop=max_drop)


@pytest.mark.parametrize(
    "other",
    [
        replace(MADE, model_digest="c" * 64),
        replace(MADE, data_digest="c" * 64),
        replace(MADE, seed=1),
        replace(MADE, tools={"onnx": "1.19", "onnxruntime": "1.33"}),
        replace(MADE, recipe=replace(RECIPE, passes=(PassSpec("quantise", {"calibrator": "minmax"}),))),
        replace(MADE, recipe=replace(RECIPE, passes=RECIPE.passes * 2)),
    ],
)
def test_whatever_changes_the_file_changes_its_key(other: Provenance) -> None:
    assert key(other) != key()


def test_settings_that_came_later_leave_older_keys_as_they_were() -> None:
    before = replace(CONDITIONS, settings=Settings(threads=2), device_fingerprint="d" * 64)
    assert (
        measurement_key(before) == "ce10b28c13338f091ba29ff7815972ae12998fbd14f04acb2098ad803d272fa2"
    )  # made before inter_op, sessions and batch were settings
    changed = [replace(before.settings, **{name: 2}) for name in ("inter_op", "sessions", "batch")]
    keys = {measurement_key(replace(before, settings=settings)) for settings in changed}
    assert len(keys | {measurement_key(before)}) == 4


def test_order_of_options_tools_and_flags_does_not_matter() -> None:
    turned = PassSpec("quantise", {"percentile": 99.9, "calibrator": "entropy"})
    same = replace(MADE, tools=dict(reversed(list(MADE.tools.items()))), recipe=replace(RECIPE, passes=(turned,)))
    assert key(same, isa=("avx2", "fma")) == key(isa=("fma", "avx2", "fma"))


def test_isa_and_the_budget_of_a_recovering_recipe_matter() -> None:
    assert key(isa=("avx2", "avx512_vnni")) != key()
    assert key(max_drop=0.02) != key()
    assert key(max_drop=None) != key()


def test_the_budget_does_not_matter_to_a_recipe_that_recovers_nothing() -> None:
    fixed = replace(MADE, recipe=replace(RECIPE, recover=False))
    assert key(fixed, max_drop=0.02) == key(fixed, max_drop=None)


@pytest.mark.parametrize("field", list(Conditions.__dataclass_fields__))
def test_every_condition_of_a_measurement_matters(field: str) -> None:
    other = {"settings": Settings(threads=2), "plan": replace(QUICK, min_samples=65), "min_cosine": 0.98}
    changed = replace(CONDITIONS, **{field: other.get(field, "other")})  # type: ignore[arg-type]
    assert measurement_key(changed) != measurement_key(CONDITIONS)


def test_without_evaluation_the_evaluation_set_does_not_matter() -> None:
    plain = replace(CONDITIONS, plan=QUICK.without_evaluation())
    assert measurement_key(plain) == measurement_key(replace(plain, evaluation_digest=None, metric="fidelity"))
    assert measurement_key(plain) != measurement_key(CONDITIONS)


def test_a_number_is_the_same_however_it_was_written() -> None:
    whole = replace(CONDITIONS, plan=Plan("p", min_seconds=1, min_samples=64, max_seconds=15))
    assert measurement_key(whole) == measurement_key(replace(whole, plan=Plan("p", 1.0, 64, 15.0)))


def test_kinds_are_kept_apart_and_nan_is_refused() -> None:
    assert exact_key("run", {"a": 1}) != exact_key("variant", {"a": 1})
    with pytest.raises(ValueError, match="the measurement holds"):
        measurement_key(replace(CONDITIONS, min_cosine=float("nan")))
    with pytest.raises(ValueError, match="the run holds a number that is NaN"):
        exact_key("run", {"a": float("nan")})
