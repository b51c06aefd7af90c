"""The same tree in a bucket of a real S3 server: pushed there, pulled from there, reported into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt.publishing.tree import push_tree
from support.pull_tree import PullTree
from support.pulling import PullingBoard, model_and_golden
from support.s3 import running_s3


def test_a_board_pulls_from_a_bucket_and_reports_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = PullTree(tmp_path / "tree")
    tree.release("digits", "1.0", 1, *model_and_golden(tmp_path / "networks"))
    tree.offer("digits", "1.0")
    tree.publish()
    with running_s3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        push_tree(tree.folder, "s3://models/fleet")
        base = f"{server.endpoint}/models"
        board = PullingBoard(tmp_path / "board", tree, f"{base}/fleet", report_url=presigned(server.bucket))
        assert board.outcome() == "committed"
        board.assert_sound("digits", "1.0")
        code, said = board.poll()
        assert (code, said[0]["outcome"]) == (0, "nothing")
        assert said[-1]["received_bytes"] == 0
        import s3fs

        data = s3fs.S3FileSystem(skip_instance_cache=True).cat_file("models/reports/board-1/latest.json")
    assert json.loads(json.loads(data)["payload"])["updates"]["digits"]["outcome"] == "committed"


def presigned(bucket: str) -> str:
    """An address that may be written without a login, as a host hands it to one board."""
    import botocore.session
    from botocore.config import Config

    client = botocore.session.get_session().create_client(
        "s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"})
    )
    params = {"Bucket": bucket, "Key": "reports/board-1/latest.json"}
    address: str = client.generate_presigned_url("put_object", Params=params, ExpiresIn=3600)
    return address
