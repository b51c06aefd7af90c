"""A real runner pins a root, takes what is fresh and well signed, and tells why it takes nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import state, targets, verbs
from support.hostile_metadata import DAY, World, signer
from support.runner import Runner
from support.trusting import TODAY, answer, update, world


@pytest.fixture
def owner() -> World:
    return world()


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "root"


def enrolled(board: Path, owner: World) -> str:
    """Enrol a board; returns its nonce."""
    found: str = verbs.enrol(str(board), {"root": json.loads(owner.roots[0])})["nonce"]
    return found


def refusal(board: Path, params: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verbs.trust_update(str(board), params)
    assert caught.value.remedy
    return caught.value


def test_a_runner_enrols_and_takes_an_update(board: Path, owner: World) -> None:
    with Runner(board) as runner:
        assert runner.result_of("trust")["enrolled"] is False
        told = runner.result_of("enrol", root=json.loads(owner.roots[0]), replace=False)
        assert (told["enrolled"], told["root"], told["targets"]) == (True, 1, 0)
        assert len(told["nonce"]) == 64
        told = runner.result_of("trust_update", **update(owner, answer(told["nonce"], owner)))
        assert [told[role] for role in ("root", "timestamp", "snapshot", "targets")] == [1, 1, 1, 1]
        assert told["delegated"] == {"rollouts": 1}
        assert told["last_trusted_time"] == TODAY
        assert (told["insecure"], told["clock_off_seconds"]) == (False, 0)
        assert set(runner.result_of("hello", protocols=[1])["verbs"]) >= {"trust", "enrol", "trust_update"}
        assert runner.result_of("clean", force=False) == {"removed": True}


def test_enrolling_again_with_the_same_root_changes_nothing(board: Path, owner: World) -> None:
    nonce = enrolled(board, owner)
    verbs.trust_update(str(board), update(owner, answer(nonce, owner)))
    told = verbs.enrol(str(board), {"root": json.loads(owner.roots[0])})
    assert told["targets"] == 1


def stranger() -> dict[str, Any]:
    """The root of somebody else."""
    other = world()
    other.keys["root"] = [40]
    other.roots.clear()
    other.add_root()
    found: dict[str, Any] = json.loads(other.roots[0])
    return found


def test_another_root_is_refused_and_taken_only_on_an_order_to_replace(board: Path, owner: World) -> None:
    verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner)))
    with pytest.raises(Refusal, match="trusts another root") as caught:
        verbs.enrol(str(board), {"root": stranger()})
    assert caught.value.code == "already_enrolled"
    told = verbs.enrol(str(board), {"root": stranger(), "replace": True})
    assert (told["root"], told["targets"], told["last_trusted_time"]) == (1, 0, 0)
    assert targets.verified(str(board)).find("releases/app/1.json") is None


def test_a_restricted_account_cannot_make_the_board_forget_its_root(
    board: Path, owner: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(board, owner)
    monkeypatch.setenv(state.DOOR_VARIABLE, "1")
    with Runner(board) as runner:
        assert runner.error_of("enrol", root=stranger())["code"] == "already_enrolled"
        assert runner.error_of("enrol", root=stranger(), replace=True)["code"] == "restricted"
        assert runner.error_of("clean", force=True)["code"] == "restricted"
        assert runner.result_of("enrol", root=json.loads(owner.roots[0]))["root"] == 1


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "bad_request"),
        ({"root": "text"}, "bad_request"),
        ({"root": {}}, "bad_metadata"),
        ({"root": {"signed": {}, "signatures": []}}, "bad_metadata"),
    ],
)
def test_what_is_no_root_is_refused(board: Path, params: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        verbs.enrol(str(board), params)
    assert caught.value.code == code


def test_a_root_that_nobody_signed_is_not_pinned(board: Path, owner: World) -> None:
    root = json.loads(owner.roots[0])
    root["signatures"] = []
    with pytest.raises(Refusal, match="signed by 0") as caught:
        verbs.enrol(str(board), {"root": root})
    assert caught.value.code == "bad_signature"
    assert not verbs.trust(str(board), {})["enrolled"]


def test_a_board_that_is_not_enrolled_takes_no_update(board: Path, owner: World) -> None:
    assert refusal(board, update(owner, answer("0" * 64, owner))).code == "not_enrolled"


def test_a_nonce_serves_once(board: Path, owner: World) -> None:
    params = update(owner, answer(enrolled(board, owner), owner))
    verbs.trust_update(str(board), params)
    assert refusal(board, params).code == "stale"


def test_two_operators_do_not_take_each_others_nonce(board: Path, owner: World) -> None:
    first = enrolled(board, owner)
    second = verbs.trust(str(board), {})["nonce"]
    verbs.trust_update(str(board), update(owner, answer(first, owner)))
    verbs.trust_update(str(board), update(owner, answer(second, owner)))


def test_a_nonce_is_forgotten_after_a_few_others(board: Path, owner: World) -> None:
    first = enrolled(board, owner)
    for _ in range(4):
        verbs.trust(str(board), {})
    assert refusal(board, update(owner, answer(first, owner))).code == "stale"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"nonce": "0" * 64}, "stale"),
        ({"timestamp_version": 9}, "stale"),
        ({"timestamp_version": True}, "bad_metadata"),
        ({"time": -1}, "bad_metadata"),
        ({"time": "now"}, "bad_metadata"),
        ({"time": 2**63 - 1}, "expired"),
        ({"_type": "timestamp"}, "bad_metadata"),
        ({"spec_version": "2"}, "bad_metadata"),
        ({"more": 1}, "bad_metadata"),
    ],
)
def test_other_statements_are_refused(board: Path, owner: World, changes: dict[str, Any], code: str) -> None:
    nonce = enrolled(board, owner)
    statement = answer(
        **{"nonce": nonce, "owner": owner, **({"now": changes.pop("time")} if "time" in changes else {})}
    )
    statement["signed"].update(changes)
    payload = str(encode_canonical(statement["signed"])).encode()
    statement["signatures"] = [signer(1).sign(payload).to_dict()]
    assert refusal(board, update(owner, statement)).code == code
    assert verbs.trust(str(board), {})["last_trusted_time"] == 0


def test_a_statement_of_another_key_or_of_none_is_refused(board: Path, owner: World) -> None:
    nonce = enrolled(board, owner)
    statement = answer(nonce, owner)
    owner.signing["timestamp"] = [2]
    forged = answer(nonce, owner)
    owner.signing.clear()
    assert refusal(board, update(owner, forged)).code == "bad_signature"
    assert refusal(board, update(owner, {**statement, "signatures": []})).code == "bad_signature"
    assert refusal(board, update(owner, None)).code == "stale"
    verbs.trust_update(str(board), update(owner, statement))


@pytest.mark.parametrize("clock", [0.0, 4_070_908_800.0], ids=["1970", "2099"])
def test_an_update_does_not_ask_the_clock(
    board: Path, owner: World, clock: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: clock)
    told = verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner)))
    assert told["last_trusted_time"] == TODAY
    assert told["clock_off_seconds"] == int(clock) - TODAY


def test_time_does_not_go_back(board: Path, owner: World) -> None:
    """An online key that was stolen cannot revive what expired by signing an old time."""
    verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner, TODAY + 5 * DAY)))
    owner.publish()
    owner.expires["targets"] = TODAY + DAY
    nonce = verbs.trust(str(board), {})["nonce"]
    found = refusal(board, update(owner, answer(nonce, owner, TODAY)))
    assert (found.code, "targets" in found.message) == ("expired", True)


def test_a_host_whose_clock_was_ahead_recovers_by_rotating_the_timestamp(board: Path, owner: World) -> None:
    verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner, TODAY + 20 * DAY)))
    owner.publish()
    owner.expires["timestamp"] = TODAY + DAY
    assert refusal(board, update(owner, answer(verbs.trust(str(board), {})["nonce"], owner))).code == "expired"
    owner.rotate("timestamp")
    told = verbs.trust_update(str(board), update(owner, answer(verbs.trust(str(board), {})["nonce"], owner)))
    assert told["last_trusted_time"] == TODAY


def test_roots_are_kept_even_when_the_rest_is_refused(board: Path, owner: World) -> None:
    nonce = enrolled(board, owner)
    owner.rotate("targets")
    owner.signing["targets"] = [3]
    assert refusal(board, update(owner, answer(nonce, owner))).code == "bad_signature"
    assert verbs.trust(str(board), {})["root"] == 2
    owner.signing.clear()
    assert verbs.trust_update(str(board), update(owner, answer(nonce, owner)))["targets"] == 2


def test_a_board_that_was_off_for_five_roots_follows(board: Path, owner: World) -> None:
    nonce = enrolled(board, owner)
    for role in ("root", "timestamp", "root", "targets"):
        owner.rotate(role)
    assert verbs.trust_update(str(board), update(owner, answer(nonce, owner)))["root"] == 5


def test_pulled_metadata_go_by_the_clock_but_never_behind_the_last_trusted_time(board: Path, owner: World) -> None:
    nonce = enrolled(board, owner)
    told = verbs.pulled(str(board), update(owner, None), float(TODAY))
    assert (told["targets"], told["last_trusted_time"]) == (1, 0)
    with pytest.raises(Refusal, match="expired"):
        verbs.pulled(str(board), update(owner, None), 4_070_908_800.0)
    assert verbs.trust(str(board), {})["last_trusted_time"] == 0  # the future is never kept
    verbs.trust_update(str(board), update(owner, answer(nonce, owner, TODAY + 5 * DAY)))
    owner.publish()
    owner.expires["timestamp"] = TODAY + 4 * DAY
    with pytest.raises(Refusal, match="timestamp version 2 expired"):
        verbs.pulled(str(board), update(owner, None), 0.0)  # a clock at 1970 revives nothing


def test_the_board_remembers_that_something_unsigned_was_installed(board: Path, owner: World) -> None:
    enrolled(board, owner)
    assert not targets.verified(str(board)).insecure
    targets.mark_insecure(str(board), "app detector: --insecure-unsigned")
    assert targets.verified(str(board)).insecure
    assert verbs.trust(str(board), {})["insecure"]


@pytest.mark.parametrize("name", ["metadata.json", "state.json"])
def test_a_damaged_file_is_sent_again(board: Path, owner: World, name: str) -> None:
    verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner)))
    path = board / "trust" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x20
    path.write_bytes(bytes(data))
    nonce = verbs.trust(str(board), {})["nonce"]
    assert verbs.trust_update(str(board), update(owner, answer(nonce, owner)))["targets"] == 1
    assert targets.verified(str(board)).find("releases/app/1.json") is not None


def test_no_bit_of_what_is_kept_may_change_unseen(board: Path, owner: World) -> None:
    verbs.trust_update(str(board), update(owner, answer(enrolled(board, owner), owner)))
    path = board / "trust" / "metadata.json"
    whole = path.read_bytes()
    signed = targets.verified(str(board)).find("releases/app/1.json")
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert targets.verified(str(board)).find("releases/app/1.json") in (signed, None)


def test_junk_in_a_request_is_one_clear_error(board: Path, owner: World) -> None:
    enrolled(board, owner)
    for params in (
        {"roots": "x"},
        {"roots": [1]},
        {"roots": [{}] * 300},
        {"timestamp": []},
        {"delegated": {"a": 1}},
        {"delegated": {str(n): {} for n in range(40)}},
        {"freshness": {"signed": [], "signatures": []}},
        {"timestamp": {"signed": {"version": 1.5}}},
    ):
        found = refusal(board, {"freshness": answer("0" * 64, owner), **params})
        assert found.code in ("bad_request", "bad_metadata", "stale")
