"""Every Python that this computer has verifies the same tree, and none writes more than it trusts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.pythons import VERSIONS, interpreter
from support.runner import Runner
from support.trusting import answer, update, world


@pytest.mark.parametrize("version", VERSIONS)
def test_a_board_with_this_python_follows_a_rotation(version: str, tmp_path: Path) -> None:
    owner = world()
    with Runner(tmp_path / "root", python=interpreter(version)) as runner:
        nonce = runner.result_of("enrol", root=json.loads(owner.roots[0]))["nonce"]
        owner.rotate("timestamp")
        told = runner.result_of("trust_update", **update(owner, answer(nonce, owner)))
        assert (told["root"], told["targets"]) == (2, 2)
        owner.publish()
        owner.signing["targets"] = [9]
        error = runner.error_of("trust_update", **update(owner, answer(told["nonce"], owner)))
        assert error["code"] == "bad_signature"
        owner.before["targets"] = lambda signed: signed.update(x=10**400)
        assert runner.error_of("trust_update", **update(owner, None))["code"] == "stale"
        nonce = runner.result_of("trust")["nonce"]
        assert runner.error_of("trust_update", **update(owner, answer(nonce, owner)))["code"] == "bad_metadata"
        assert runner.result_of("clean", force=False) == {"removed": True}
