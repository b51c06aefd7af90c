"""What the doctor knows of releases: those that die on a board, those that read little, those that it could have."""

from __future__ import annotations

from edgeopt.workflow.suitability import broken_releases, onnx_versions, to_be_had
from support.boards import board_facts


def test_a_release_that_dies_on_the_board_is_named_with_one_that_does_not() -> None:
    check = broken_releases(board_facts(runtimes={"onnxruntime": "1.21.0"}, libc="glibc 2.36", python="3.11.2"))
    assert not check.ok
    assert "onnxruntime 1.21.0 dies of an illegal instruction" in check.detail
    assert "1.32.0: edgeopt device provision NAME --runtime onnxruntime" in check.remedy
    assert broken_releases(board_facts(runtimes={"onnxruntime": "1.21.1"})).ok


def test_an_old_onnxruntime_is_told_with_what_it_reads() -> None:
    assert (
        "opsets up to 21, IR versions up to 10" in onnx_versions(board_facts(runtimes={"onnxruntime": "1.19.2"})).detail
    )
    assert (
        "opsets up to 23, IR versions up to 11" in onnx_versions(board_facts(runtimes={"onnxruntime": "1.23.2"})).detail
    )
    assert "nothing is known" in onnx_versions(board_facts(runtimes={"onnxruntime": "1.32.0"})).detail
    assert onnx_versions(board_facts(runtimes={})).detail == "no onnxruntime"


def test_a_board_is_told_what_it_can_have() -> None:
    small = to_be_had(board_facts(runtimes={}, bits=32, python="3.11.2", libc="glibc 2.36"))
    assert small.ok
    assert "tflite_runtime 2.14.0" in small.detail
    assert "onnxruntime" not in small.detail
    none = to_be_had(board_facts(runtimes={}, python="3.5.3", libc="glibc 2.24"))
    assert not none.ok
    assert "Python 3.5.3 with glibc 2.24 on aarch64" in none.detail
    assert none.remedy
