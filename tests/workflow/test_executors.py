"""Every executor gives what this process gives, loses no order with a worker, and gives up what takes every worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import ChildError, ToolError, UsageError
from edgeopt.workflow.executors import _base, check_executor, open_executor
from edgeopt.workflow.executors._base import ATTEMPTS, Executor, Repair
from edgeopt.workflow.executors.here import Here
from edgeopt.workflow.executors.pool import Pool
from support.executing import EIGHT, PLAIN, killing, make_order, outcome

BAD = Recipe("bad", (PassSpec("adopt", {"path": "/nowhere.onnx", "digest": ""}),))


@pytest.fixture(scope="module", params=["here", "pool:2"])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with open_executor(request.param, tmp_path_factory.mktemp("made")) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orders")


def test_it_gives_the_same_files_figures_and_refusals_as_this_process(executor: Executor, folder: Path) -> None:
    orders = [make_order(folder, recipe) for recipe in (PLAIN, EIGHT, BAD)]
    promises = [executor.submit(order) for order in orders]
    assert [outcome(one) for one in promises] == [outcome(Here().submit(order)) for order in orders]
    assert "pass adopt" in outcome(promises[2])[1]


def test_layers_are_given_back_to_float_there_and_their_ranking_comes_along(executor: Executor, folder: Path) -> None:
    plain = executor.submit(make_order(folder, EIGHT)).result()
    repair = Repair(reference=1.0, max_drop=(1.0 - plain.value) / 2, made=plain.made, value=plain.value)
    mended = executor.submit(make_order(folder, EIGHT, repair=repair)).result()
    assert mended.made.kept_float
    assert mended.value > plain.value
    assert mended.ranking[0][0] in mended.made.kept_float
    assert "layers in float" in mended.notes[0]


def test_an_order_whose_worker_is_killed_is_begun_again(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    with Pool(1) as pool, killing(lambda: pool.pids, most=2) as killed:
        found = outcome(pool.submit(order))
        assert len(killed) == 2
    assert found == outcome(Here().submit(order))


def test_an_order_that_takes_every_worker_is_given_up_and_the_next_is_not(tmp_path: Path) -> None:
    with Pool(1) as pool:
        with killing(lambda: pool.pids) as killed, pytest.raises(ChildError, match=f"{ATTEMPTS} times .crash:SIGKILL"):
            pool.submit(make_order(tmp_path)).result()
        assert len(killed) == ATTEMPTS
        assert pool.submit(make_order(tmp_path)).result().value == pytest.approx(1.0)


def test_what_breaks_a_worker_is_said(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    incomplete = replace(order, files={"source": order.files["source"]})
    with Pool(1) as pool, pytest.raises(ChildError, match=f"its worker {ATTEMPTS} times .KeyError: 'golden'"):
        pool.submit(incomplete).result()


def test_closing_ends_the_processes_and_what_they_are_at(tmp_path: Path) -> None:
    pool = Pool(1)
    promise = pool.submit(make_order(tmp_path))
    while not pool.pids:
        pass
    (pid,) = pool.pids
    pool.close()
    with pytest.raises(ChildError):
        promise.result()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_is_done_goes_by_the_files_the_user_has_here_alone(tmp_path: Path) -> None:
    (tmp_path / "metric.py").write_text("def metric(outputs, labels): return 1.0\n")
    order = make_order(tmp_path / "order")
    assert not _base.needs_this_computer(order)
    assert _base.needs_this_computer(replace(order, metric=f"{tmp_path}/metric.py:metric"))
    own = Recipe("own", (PassSpec("adopt", {"path": str(tmp_path / "metric.py"), "digest": ""}),))
    assert _base.needs_this_computer(replace(order, recipe=own))


@pytest.mark.parametrize("text", ["pool", "pool:0", "pool:257", "pool:-1", "ray", "ray:", "ray://", "dask:8", ""])
def test_an_executor_that_there_is_not_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="is not known") as caught:
        check_executor(text)
    assert "pool:4" in caught.value.remedy


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
@pytest.mark.parametrize("text", ["ray:auto", "ray://head:10001", "ray:10.0.0.5:6379"])
def test_without_ray_it_is_said_before_anything_begins(text: str) -> None:
    with pytest.raises(ToolError, match="needs Ray") as caught:
        check_executor(text)
    assert caught.value.remedy == "pip install 'edgeopt[ray]'."
