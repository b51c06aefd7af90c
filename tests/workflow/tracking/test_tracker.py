"""A tracker that fails ends no run and is told of once."""

from __future__ import annotations

import pytest

from edgeopt.core.run import RunRecord
from edgeopt.errors import StoreError
from edgeopt.workflow.tracking.tracker import Forgiving, in_short, tell
from support.records import run_record
from support.workflow import Heard


class Failing:
    """Fails from its second call on."""

    place = "MLflow at http://there:5000"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) > 1:
            raise RuntimeError("http://me:secret@there:5000 said 503.\nand much more")

    def saved(self, record: RunRecord) -> None:
        self._call("saved")

    def ended(self, record: RunRecord, page: str) -> None:
        self._call("ended")

    def left(self) -> None:
        self._call("left")


def test_the_first_failure_is_told_and_then_it_is_left_alone() -> None:
    tracker, heard = Failing(), Heard()
    forgiving = Forgiving(tracker, heard)
    for _ in range(5):
        forgiving.saved(run_record())
    forgiving.ended(run_record(), "")
    forgiving.left()
    assert tracker.calls == ["saved", "saved"]
    (said,) = heard.lines
    assert "MLflow at http://there:5000 is told nothing more of this run: http://there:5000 said 503. " in said
    assert f"edgeopt report {run_record().run_id} --log-to mlflow:URI" in said


def test_what_is_told_on_purpose_fails_as_an_error_of_ours() -> None:
    with pytest.raises(StoreError, match="said 503") as error:
        tell(Failing(), run_record(), "")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgresql://me:secret@db/runs", "postgresql://db/runs"),
        (
            "postgresql://db/runs?user=me&password=secret&sslmode=require",
            "postgresql://db/runs?user=me&password=***&sslmode=require",
        ),
        ("http://there:5000/?ACCESS_TOKEN=secret#top: 503", "http://there:5000/?ACCESS_TOKEN=***#top: 503"),
        (f"{'x' * 280} http://me:{'secret' * 9}@there", f"{'x' * 280} http://there"),
    ],
)
def test_a_place_is_shown_without_its_secrets(said: str, shown: str) -> None:
    assert in_short(RuntimeError(said)) == shown


def test_ctrl_c_while_it_is_told_is_ctrl_c() -> None:
    class Interrupted(Failing):
        def _call(self, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Forgiving(Interrupted(), Heard()).saved(run_record())
