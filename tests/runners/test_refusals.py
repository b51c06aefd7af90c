"""What people read of a refusal: message and remedy are sentences, on the board and on the host alike."""

from __future__ import annotations

import pytest

from edgeopt.errors import UsageError
from edgeopt_runner.refusals import Refusal


@pytest.mark.parametrize(
    ("message", "remedy", "said"),
    [
        ("it is not enrolled", "Enrol it.", "it is not enrolled. Enrol it."),
        ("it is not enrolled.", "Enrol it.", "it is not enrolled. Enrol it."),
        ("is it?", "Look.", "is it? Look."),
        ("it is not enrolled", "", "it is not enrolled"),
        ("", "Look.", "Look."),
    ],
)
def test_a_full_stop_stands_between_message_and_remedy(message: str, remedy: str, said: str) -> None:
    assert Refusal("error", message, remedy).sentences.strip() == said
    assert str(UsageError(message, remedy=remedy)) == said
