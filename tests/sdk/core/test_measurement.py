"""Which launches may rank."""

import pytest

from support.measurements import measurement


@pytest.mark.parametrize("flag", ["throttled", "swapped", "env_changed", "clock_suspect"])
def test_a_launch_that_the_board_spoiled_may_not_rank(flag: str) -> None:
    assert not measurement("int8", None, flags=(flag,)).valid


@pytest.mark.parametrize("flag", ["unstable", "contended", "started_hot", "warmup_capped"])
def test_a_launch_that_is_only_weaker_may(flag: str) -> None:
    assert measurement("int8", None, flags=(flag,)).valid
