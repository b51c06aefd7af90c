"""Studies on SQLite and on a real PostgreSQL: several workers, lost ones among them, and a network that changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, insert

from edgeopt.core.budget import Budget
from edgeopt.core.space import Trial
from edgeopt.core.study import Subject
from edgeopt.documents import encode_json
from edgeopt.errors import StoreError, UsageError
from edgeopt.store import tables
from edgeopt.store.studies import StudyStore
from support.measurements import digest

SUBJECT = Subject("net.onnx", digest("net"), digest("data"), digest("space"), Budget(), {"profile": "raspberry-pi-5"})
GAVE = {"objectives": (1e6, 0.01), "excess": 0.0, "variant": "v", "board": "pi", "device_seconds": 2.5}


def trial(number: int, bits: int) -> Trial:
    return Trial(number, {"bits": bits, "depth": None}, excess=0.0)


def test_a_trial_is_claimed_by_one_worker_and_comes_back_as_it_was_finished(ledger_url: str) -> None:
    with StudyStore(ledger_url) as one, StudyStore(ledger_url) as other:
        key = one.open(SUBJECT, now=1.0)
        assert other.open(SUBJECT, now=2.0) == key
        claim = one.claim(key, trial(1, 8), "a:1", now=1.0)
        assert claim is not None
        assert other.claim(key, trial(1, 4), "b:1", now=1.0) is None  # the number is taken
        assert other.claim(key, trial(2, 8), "b:1", now=1.0) is None  # the point is
        assert [(seen.owner, seen.trial.point) for seen in other.claims(key)] == [("a:1", trial(1, 8).point)]
        done = replace(claim.trial, **GAVE)
        assert one.finish(key, claim, done)
        assert other.finished(key) == (done,)
        assert not other.claims(key)
        assert other.finished(key, after=1) == ()


def test_a_lost_trial_is_taken_over_by_exactly_one_and_only_the_first_end_counts(ledger_url: str) -> None:
    with StudyStore(ledger_url) as store:
        key = store.open(SUBJECT, now=1.0)
        claim = store.claim(key, trial(1, 8), "a:1", now=1.0)
        assert claim is not None
        taken = store.take_over(key, claim, "b:1", now=200.0)
        assert taken is not None
        assert (taken.owner, taken.attempts) == ("b:1", 2)
        assert store.take_over(key, claim, "c:1", now=200.0) is None
        store.beat(key, claim, now=300.0)  # the lost one wakes up: it is not its trial any more
        assert store.claims(key)[0].beat_at == 200.0
        assert store.finish(key, taken, replace(taken.trial, **GAVE))
        assert not store.finish(key, claim, replace(claim.trial, variant="late", excess=0.0))
        assert [one.variant for one in store.finished(key)] == ["v"]


def test_a_worker_that_lives_keeps_its_trial(ledger_url: str) -> None:
    with StudyStore(ledger_url) as store:
        key = store.open(SUBJECT, now=1.0)
        claim = store.claim(key, trial(1, 8), "a:1", now=1.0)
        assert claim is not None
        store.beat(key, claim, now=150.0)
        assert store.take_over(key, claim, "b:1", now=200.0) is None


def test_a_named_study_refuses_a_network_that_has_changed_and_says_so(ledger_url: str) -> None:
    with StudyStore(ledger_url) as store:
        store.open(SUBJECT, "night", now=1.0)
        changed = replace(SUBJECT, model_digest=digest("retrained"))
        with pytest.raises(UsageError, match=r"study 'night' is about something else: the network changed") as refused:
            store.open(changed, "night", now=2.0)
        assert "--study" in refused.value.remedy
        assert store.open(SUBJECT, "night", now=3.0)  # nothing was lost


def test_each_profile_and_each_fresh_run_has_a_study_of_a_name_to_itself(ledger_url: str) -> None:
    with StudyStore(ledger_url) as store:
        kinds = [SUBJECT, replace(SUBJECT, board={"profile": "raspberry-pi-4"}), replace(SUBJECT, mark="0101-abcd")]
        keys = [store.open(one, "night", now=1.0) for one in kinds]
        assert len(set(keys)) == 3
        assert [store.open(one, "night", now=2.0) for one in kinds] == keys
        slower = replace(SUBJECT, board={**SUBJECT.board, "power": "7W"})
        with pytest.raises(UsageError, match="the kind of board changed"):
            store.open(slower, "night", now=3.0)


def test_trials_of_a_file_that_changed_are_counted_and_not_used(ledger_url: str) -> None:
    changed = replace(SUBJECT, model_digest=digest("retrained"))
    with StudyStore(ledger_url) as store:
        key = store.open(SUBJECT, now=1.0)
        store.claim(key, trial(1, 8), "a:1", now=1.0)
        assert store.outdated(SUBJECT) == 0
        assert store.outdated(changed) == 1
        assert store.outdated(replace(changed, model="other.onnx")) == 0
        assert store.open(changed, now=2.0) != key


def test_the_same_search_on_another_kind_of_board_is_kin_and_nothing_else_is(ledger_url: str) -> None:
    other = replace(SUBJECT, board={"profile": "raspberry-pi-4"})
    with StudyStore(ledger_url) as store:
        key = store.open(SUBJECT, now=1.0)
        claim = store.claim(key, trial(1, 8), "a:1", now=1.0)
        assert claim is not None
        store.finish(key, claim, replace(claim.trial, **GAVE))
        assert [[one.variant for one in trials] for trials in store.kin(other)] == [["v"]]
        assert store.kin(SUBJECT) == ()
        assert store.kin(replace(other, data_digest=digest("others"))) == ()


def test_a_number_that_is_none_is_refused_and_the_claim_stays(ledger_url: str) -> None:
    with StudyStore(ledger_url) as store:
        key = store.open(SUBJECT, now=1.0)
        claim = store.claim(key, trial(1, 8), "a:1", now=1.0)
        assert claim is not None
        with pytest.raises(StoreError, match="NaN"):
            store.finish(key, claim, replace(claim.trial, excess=float("inf")))
        assert len(store.claims(key)) == 1


def test_ten_thousand_trials_are_opened_by_a_handful_of_statements(tmp_path: Path) -> None:
    """Statements and not seconds: what grows with the trials is one row each (benchmarks/search.py has the seconds)."""
    points = {f"choice{number}": number for number in range(8)}
    with StudyStore(tmp_path / "ledger.db") as store:
        key = store.open(SUBJECT, now=1.0)
        rows = [
            {"study": key, "number": n, "point": str(n), "owner": "", "beat_at": 0.0, "attempts": 1}
            | {"document": encode_json(Trial(n, {**points, "width": n}, **GAVE))}
            for n in range(1, 10_001)
        ]
        with store._database.writing() as connection:
            connection.execute(insert(tables.study_trials), rows)
    with StudyStore(tmp_path / "ledger.db") as store:
        said: list[str] = []
        event.listen(store._database._engine, "before_cursor_execute", lambda *args: said.append(args[2]))
        known = store.finished(store.open(SUBJECT, now=2.0))
    assert len(known) == 10_000
    assert len([text for text in said if "study_trials" in text]) == 1
