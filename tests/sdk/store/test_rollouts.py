"""Rollouts in SQLite and in a real PostgreSQL: kept whole, driven by one, fenced."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Caps
from edgeopt.core.rollout import GatePolicy, GateVerdict, Rollout
from edgeopt.errors import RolloutBusyError, StoreError, UsageError
from edgeopt.fleet.plan import Forecast, build_plan
from edgeopt.fleet.rollout import new_rollout
from edgeopt.store.database import Database
from edgeopt.store.ledger import Ledger
from edgeopt.store.rollouts import RolloutStore
from edgeopt.store.tables import SCHEMA_VERSION
from support.rollouts import figures

ONE, TWO = "1" * 16, "2" * 16
VERDICT = GateVerdict(1, "go", (), (("committed", 2),), (("pi5", 0.01, -0.02, 0.04),), 5.0)


def rollout(rollout_id: str = ONE, release: str = "detector@1.0.0", boards: int = 4) -> Rollout:
    there = [Board(Device(f"b{number}", "ssh", host="h", profile="pi5"), "oslo") for number in range(boards)]
    known = {board.name: Forecast("update", send_bytes=7, before="0.9") for board in there}
    terms = (GatePolicy(soak_seconds=60.0), Caps(sites={"oslo": 2}))
    return new_rollout(rollout_id, build_plan(release, "a" * 64, there, known, waves=("1", "100%"), terms=terms))


def test_a_rollout_comes_back_as_it_was_kept(ledger_url: str) -> None:
    made = rollout()
    with RolloutStore(ledger_url) as store:
        store.create(made, key="k", now=3.0)
        fence = store.take(ONE, "alice@elsewhere:7", now=10.0)
        done = dataclasses.replace(
            made.boards[0], state="committed", before=figures(), after=figures(9e6), sent_bytes=7, updated_at=4.0
        )
        head = dataclasses.replace(made, state="running", wave=1, started_at=4.0, fence=fence, gates=(VERDICT,))
        store.save(head, [done])
        store.save(dataclasses.replace(head, wave=2, gates=(VERDICT, dataclasses.replace(VERDICT, wave=2))))
    with RolloutStore(ledger_url) as store:
        kept = store.rollout(ONE)
    assert kept.boards == (done, *made.boards[1:])
    assert kept.plan == made.plan
    assert [gate.wave for gate in kept.gates] == [1, 2]
    assert (kept.state, kept.wave, kept.started_at, kept.holder) == ("running", 2, 4.0, "alice@elsewhere:7")


def test_rollouts_are_found_by_command_by_name_and_by_board(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        store.create(rollout(ONE), key="k", now=1.0)
        store.create(rollout(TWO, "other@2", boards=1), key="other", now=2.0)
        assert store.find_open("k") == ONE
        assert store.find_open("nothing") is None
        assert store.rollout("11").rollout_id == ONE
        assert [found.rollout_id for found in store.rollouts()] == [TWO, ONE]
        assert [found.release for found in store.rollouts(app="detector")] == ["detector@1.0.0"]
        history = store.of_board("b0")
        assert [(summary.release, board.state) for summary, board in history] == [
            ("other@2", "pending"), ("detector@1.0.0", "pending"),
        ]  # fmt: skip
        fence = store.take(ONE, "me@x:1", now=3.0)
        store.save(dataclasses.replace(rollout(ONE), state="done", fence=fence))
        assert store.find_open("k") is None
        for name in ("3", ""):
            with pytest.raises(StoreError, match=f"rollout '{name}' is not known"):
                store.rollout(name)


def test_what_was_committed_last_is_found_however_long_ago(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        for number in range(30):  # one of an app that is updated seldom, then many of another
            made = rollout(f"{number:016}", "seldom@1" if number == 0 else f"often@{number}", boards=2)
            store.create(made, key="k", now=float(number))
            head = dataclasses.replace(made, fence=store.take(made.rollout_id, "a@b:1", now=1.0))
            reached = made.boards if number != 29 else made.boards[:1]
            store.save(head, [dataclasses.replace(board, state="committed") for board in reached])
        assert [int(found) for found in store.last_committed()] == [0, 28, 29]


def test_one_drives_an_app_at_a_time_and_each_raises_the_fence(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        store.create(rollout(ONE), key="k", now=1.0)
        store.create(rollout(TWO), key="j", now=1.0)
        assert store.fence("detector") == 0
        first = store.take(ONE, "alice@elsewhere:7", now=100.0)
        for taken in (ONE, TWO):  # another rollout of the same app, too: boards keep one fence for it
            with pytest.raises(
                RolloutBusyError, match=r"busy: alice@elsewhere:7 drives detector@1\.0\.0 \(rollout 1+, wave 0\)"
            ):
                store.take(taken, "bob@there:9", now=159.0)
        assert store.take(ONE, "alice@elsewhere:7", now=100.0) == first + 1
        store.renew(ONE, first + 1, now=150.0)
        with pytest.raises(RolloutBusyError, match="alice@elsewhere:7"):
            store.take(TWO, "bob@there:9", now=209.0)
        second = store.take(TWO, "bob@there:9", now=210.0)
        assert second > first + 1
        with pytest.raises(RolloutBusyError, match=r"bob@there:9 has taken rollout 1+ over"):
            store.renew(ONE, first + 1, now=211.0)
        assert store.take(ONE, "alice@elsewhere:7", now=209.0, takeover=True) == second + 1, "a clock behind"
        store.give_back(TWO, second)  # too late: it is not his any more
        lease = store.lease("detector")
        assert lease is not None
        assert (lease.holder, lease.fence, store.fence("detector")) == ("alice@elsewhere:7", second + 1, second + 1)
        store.give_back(ONE, second + 1)
        assert store.lease("detector") is None
        assert store.take(TWO, "bob@there:9", now=212.0) > second + 1


def test_who_was_taken_over_writes_nothing(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        made = rollout()
        store.create(made, key="k", now=1.0)
        old = store.take(ONE, "alice@elsewhere:7", now=1.0)
        store.take(ONE, "bob@there:9", now=2.0, takeover=True)
        late = dataclasses.replace(made, state="done", fence=old)
        with pytest.raises(RolloutBusyError, match="this process does nothing more"):
            store.save(late, [dataclasses.replace(made.boards[0], state="committed")])
        kept = store.rollout(ONE)
    assert (kept.state, kept.boards) == ("planned", made.boards)


def test_the_lease_of_a_process_that_has_ended_is_free_at_once(ledger_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait()
    with RolloutStore(ledger_url) as store:
        store.create(rollout(), key="k", now=1.0)
        ended = store.take(ONE, f"alice@{socket.gethostname()}:{child.pid}", now=1.0)
        assert (store.lease("detector"), store.rollout(ONE).holder, store.rollouts()[0].holder) == (None, "", "")
        assert store.take(ONE, f"alice@{socket.gethostname()}:{os.getpid()}", now=2.0) > ended
        with pytest.raises(RolloutBusyError):
            store.take(ONE, "bob@there:9", now=3.0)


def test_of_many_that_want_it_one_gets_it(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        store.create(rollout(), key="k", now=1.0)
    got: list[int] = []
    refused: list[str] = []

    def want(number: int) -> None:
        with RolloutStore(ledger_url) as store:
            try:
                got.append(store.take(ONE, f"user{number}@there:1", now=1.0))
            except RolloutBusyError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_orders_wait_until_they_are_carried_out(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        made = rollout()
        store.create(made, key="k", now=1.0)
        assert store.ordered(ONE) == ("", "")
        store.order(ONE, "pause", by="bob")
        assert store.ordered(ONE) == ("pause", "bob")
        head = dataclasses.replace(made, state="paused", fence=store.take(ONE, "a@b:1", now=1.0))
        store.order(ONE, "cancel", by="eve")  # a later one is not crossed out with it
        store.save(head, obeyed="pause")
        assert store.ordered(ONE) == ("cancel", "eve")
        store.save(dataclasses.replace(head, state="cancelled"), obeyed="cancel")
        assert store.ordered(ONE) == ("", "")
        with pytest.raises(UsageError, match=r"rollout 1+ is cancelled"):
            store.order(ONE, "resume", by="bob")
        with pytest.raises(UsageError, match="'explode' is no order"):
            store.order(ONE, "explode", by="bob")


def test_nan_never_enters(ledger_url: str) -> None:
    with RolloutStore(ledger_url) as store:
        made = rollout()
        store.create(made, key="k", now=1.0)
        head = dataclasses.replace(made, fence=store.take(ONE, "a@b:1", now=1.0))
        bad = dataclasses.replace(made.boards[0], after=figures(cosine=float("nan")))
        with pytest.raises(StoreError, match="NaN or infinite"):
            store.save(head, [bad])
        assert store.rollout(ONE).boards == made.boards


def test_a_ledger_from_before_fleets_gets_the_tables_and_keeps_its_runs(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.start_run("r1", "key", "command", started_at=1.0)
    database = Database(ledger_url)
    with database.writing() as connection:
        for table in ("rollout_gates", "rollout_boards", "rollout_leases", "rollouts"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE edgeopt_schema SET version = 1"))
    database.close()
    with RolloutStore(ledger_url) as store:
        store.create(rollout(), key="k", now=1.0)
        assert store.find_open("k") == ONE
    database = Database(ledger_url)
    with database.reading() as connection:
        assert connection.execute(text("SELECT version FROM edgeopt_schema")).scalar() == SCHEMA_VERSION
    database.close()
    with Ledger(ledger_url) as ledger:
        assert [run.run_id for run in ledger.runs()] == ["r1"]
