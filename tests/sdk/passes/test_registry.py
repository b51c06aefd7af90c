import pytest

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes.registry import load_pass, pass_names


def test_unknown_pass_lists_those_there_are():
    with pytest.raises(PassError, match=r"no pass 'prune'.*quantise_static"):
        load_pass(PassSpec("prune"))


def test_all_bad_options_are_reported_at_once():
    spec = PassSpec("quantise_static", {"calibrator": "best", "bogus": 1, "per_channel": "perhaps"})
    with pytest.raises(PassError) as caught:
        load_pass(spec)
    message = str(caught.value)
    assert all(part in message for part in ("'bogus'", "calibrator='best'", "per_channel='perhaps'", "percentile"))


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("quantise_static", {"samples": 0}, "samples is 0"),
        ("quantise_static", {"percentile": 101}, "percentile is 101"),
        ("quantise_static", {"activations": "int8", "weights": "uint8"}, "exist in no runtime"),
        ("quantise_weights", {"block_size": 24}, "block_size is 24"),
        ("quantise_weights", {"bits": 3}, "bits=3"),
        ("quantise_dynamic", {"min_share": 2}, "min_share is 2"),
        ("cast_half", {"margin": 0.5}, "margin is 0.5"),
        ("optimise_graph", {"level": "all"}, "level='all'"),
        ("simplify", {"fold_limit_bytes": -1}, "fold_limit_bytes"),
    ],
)
def test_values_out_of_range_are_refused(name, options, reason):
    with pytest.raises(PassError, match=reason):
        load_pass(PassSpec(name, options))


def test_names_are_sorted_and_unique():
    assert list(pass_names()) == sorted(set(pass_names()))
