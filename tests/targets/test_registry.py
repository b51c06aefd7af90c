import pytest

from edgeopt.errors import DocumentError
from edgeopt_targets import registry


def test_targets_are_found_by_entry_point():
    assert registry.target("x86").name == "x86"
    assert "x86" in registry.target_names()


def test_unknown_target_lists_those_there_are():
    with pytest.raises(DocumentError, match=r"no target 'gpu'.*x86"):
        registry.target("gpu")
