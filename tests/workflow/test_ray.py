"""Variants made on a real Ray cluster of several nodes, one of which is lost in the middle.

Long: a cluster takes half a minute of CPU to start and end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import ToolError
from edgeopt.home import home
from edgeopt.workflow.executors import open_executor
from edgeopt.workflow.executors.here import Here
from support.executing import EIGHT, PLAIN, make_order, outcome

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'edgeopt[ray]'")
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@contextlib.contextmanager
def ray_cluster(nodes: int) -> Iterator[Any]:
    """A head without a CPU, so that all work is done on other nodes, and so many of these with one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def ray_server(folder: Path) -> Iterator[str]:
    """A cluster started as its users do, for clients of other computers; its address."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    ports = [str(free_port()) for _ in range(2)]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    command += [f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}", "--include-dashboard=false"]
    with (folder / "ray.log").open("wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for(int(ports[1]))
            yield f"ray://127.0.0.1:{ports[1]}"
        finally:
            head.terminate()
            head.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(240):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.5)
    raise AssertionError("Ray did not start")


def test_a_client_of_a_cluster_elsewhere_gets_what_this_process_gives(tmp_path: Path) -> None:
    order = make_order(tmp_path / "orders")
    expected = outcome(Here().submit(order))
    with ray_server(tmp_path) as address, open_executor(address, tmp_path / "made") as executor:
        assert executor.width == 1
        assert outcome(executor.submit(order)) == expected


def test_a_cluster_gives_what_this_process_gives_and_every_file_travels_once(tmp_path: Path) -> None:
    orders = [make_order(tmp_path / "orders", recipe) for recipe in (PLAIN, EIGHT)]
    expected = [outcome(Here().submit(order)) for order in orders]
    with ray_cluster(2) as cluster, open_executor(f"ray:{cluster.address}", tmp_path / "made") as executor:
        assert executor.width == 2
        promises = [executor.submit(order) for order in orders]
        assert [outcome(one) for one in promises] == expected
        made = promises[0].result().made.path
        assert made.parent == tmp_path / "made"
        assert len(list((home() / "worker" / "files").iterdir())) == 2  # network and samples, each under its digest


def test_a_node_that_is_lost_in_the_middle_loses_no_order(tmp_path: Path) -> None:
    order = make_order(tmp_path / "orders")
    expected = outcome(Here().submit(order))
    with ray_cluster(1) as cluster, open_executor(f"ray:{cluster.address}", tmp_path / "made") as executor:
        (node,) = (one for one in cluster.list_all_nodes() if one != cluster.head_node)
        promise = executor.submit(order)
        while not (home() / "worker" / "passes").exists():  # it is at work there
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        assert outcome(promise) == expected


def test_a_node_that_cannot_keep_files_is_asked_again_before_the_run_fails(tmp_path: Path) -> None:
    order, blocked = make_order(tmp_path / "orders"), home() / "worker"
    with ray_cluster(1) as cluster, open_executor(f"ray:{cluster.address}", tmp_path / "made") as executor:
        blocked.write_text("no folder can be made here")
        with pytest.raises(ToolError, match=r"in 3 attempts: NotADirectoryError.*worker"):
            executor.submit(order).result()
        promise = executor.submit(order)
        ray.wait([promise._running])  # type: ignore[attr-defined]
        blocked.unlink()
        assert promise.result().value == pytest.approx(1.0)


def test_where_no_cluster_answers_it_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no Ray cluster answers at 127\.0\.0\.1:9") as caught:
        open_executor("ray:127.0.0.1:9", tmp_path)
    assert "ray start --head" in caught.value.remedy
