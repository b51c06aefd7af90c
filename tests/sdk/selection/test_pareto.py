from __future__ import annotations

import math

from edgeopt.selection.pareto import crowding, ranks


def test_ranks_peel_front_after_front_and_equal_points_share_one():
    assert ranks([(1, 4), (4, 1), (2, 5), (5, 5), (1, 4), (2, 2)]) == [0, 0, 1, 2, 0, 0]
    assert ranks([]) == []


def test_ends_are_never_crowded_and_between_them_the_gap_counts():
    far = crowding([(0.0, 10.0), (1.0, 9.0), (2.0, 3.0), (10.0, 0.0)])
    assert far[0] == far[3] == math.inf
    assert far[1] == 0.2 + 0.7
    assert far[2] == 0.9 + 0.9
    assert crowding([(1.0, 1.0)] * 3)[1] in (0.0, math.inf)
    assert crowding([]) == []
