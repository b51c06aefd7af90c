"""Boards behind real sshds on loopback, each with a home of its own, and a signed release that they believe."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthLimits, Release, ReleaseEntry
from edgeopt.workflow.fleet.composing import manifest_bytes
from edgeopt.workflow.fleet.tree import Tree
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol.samples import write_samples
from support.device import pin
from support.networks import save
from support.publishing import make_keys
from support.sshd import Sshd, make_key, running_sshd

PROFILE, APP, VERSION = "loopback", "bench", "1.0.0"
INPUTS, OUTPUTS = 128, 8
ENROLLED_AT_ONCE, COMPILED_SECONDS = 4, 60.0
EDGEOPT = str(Path(sys.executable).with_name("edgeopt"))


@dataclass(frozen=True)
class Loopback:
    """The boards, and what is brought to them.

    Attributes:
        folder: With everything in it; edgeopt's home is `home`.
        servers: The boards.
        key: Opens them all.
        model: The file of the release that is measured with.
        digest: Its SHA-256.
    """

    folder: Path
    servers: tuple[Sshd, ...]
    key: Path
    model: Path
    digest: str

    @property
    def known_hosts(self) -> Path:
        """The host keys as OpenSSH reads them."""
        return self.folder / "known_hosts"

    def copy_of(self, server: Sshd) -> Path:
        """Where tools that copy files put the model."""
        return server.home / "model.onnx"

    def object_of(self, server: Sshd) -> Path:
        """Where edgeopt's runner keeps the model."""
        return server.home / ".edgeopt" / "objects" / self.digest

    def reset(self) -> None:
        """Take away what tools brought; boards are enrolled again and have nothing else."""
        for server in self.servers:
            self.copy_of(server).unlink(missing_ok=True)
            shutil.rmtree(server.home / ".edgeopt")
            shutil.copytree(server.folder / "enrolled", server.home / ".edgeopt", symlinks=True)

    def check(self, copies: bool) -> None:
        """See that every board has the model, byte by byte: as a copy, or as an object."""
        for server in self.servers:
            path = self.copy_of(server) if copies else self.object_of(server)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == self.digest, f"{path} is another file"


@contextlib.contextmanager
def loopback(folder: Path, count: int, mib: int) -> Iterator[Loopback]:
    """So many enrolled boards, listening inside the block, and a release with a model of so many MiB."""
    folder.mkdir()
    os.environ["EDGEOPT_HOME"] = str(folder / "home")
    key = make_key(folder / "key")
    model, golden = made_model(folder, mib)
    with contextlib.ExitStack() as stack, Workspace.open() as workspace:
        publish(workspace, model, golden)
        servers = []
        for number in range(count):
            place = folder / f"board-{number:03}"
            environment = {"EDGEOPT_LOCK": str(place / "lock")}
            server = stack.enter_context(running_sshd(place, environment=environment))
            server.authorize(key)
            pin(server)
            device = server.device(place.name, identity_file=str(key), python=sys.executable, profile=PROFILE)
            workspace.inventory.add(device)
            servers.append(server)
        found = Loopback(folder, tuple(servers), key, model, hashlib.sha256(model.read_bytes()).hexdigest())
        found.known_hosts.write_text("".join(f"[{one.host}]:{one.port} {public(one)}\n" for one in servers))
        enrol(found)
        yield found


def public(server: Sshd) -> str:
    """Kind and key of a server's host key."""
    return " ".join(Path(f"{server.host_key}.pub").read_text().split()[:2])


def enrol(boards: Loopback) -> None:
    """Have the boards trust our root, ask them once what they would do, and keep a copy of how they are then."""
    with ThreadPoolExecutor(ENROLLED_AT_ONCE) as pool:
        list(pool.map(lambda server: edgeopt("enrol", server.folder.name), boards.servers))
    edgeopt("update", f"{APP}@{VERSION}", "--to", "all", "--plan", "--concurrency", str(ENROLLED_AT_ONCE))
    for server in boards.servers:
        wait_for_compiled_runner(server)
        shutil.copytree(server.home / ".edgeopt", server.folder / "enrolled", symlinks=True)


def wait_for_compiled_runner(server: Sshd) -> None:
    """A runner compiles itself when the first talk about a release is over, which nobody waits for."""
    deadline = time.monotonic() + COMPILED_SECONDS
    while not list(server.home.glob(".edgeopt/runner/*/edgeopt_runner.*.pyz")):
        assert time.monotonic() < deadline, f"{server.folder}: the runner did not compile itself"
        time.sleep(0.1)


def edgeopt(*words: str) -> None:
    """A command of the fleet; an error where it fails."""
    done = subprocess.run([EDGEOPT, "fleet", *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def made_model(folder: Path, mib: int) -> tuple[Path, Path]:
    """A float32 network of two multiplications whose weights are noise, and its golden samples."""
    width = (mib << 20) // 4 // (INPUTS + OUTPUTS)
    rng = np.random.default_rng(7)
    wide, narrow = (rng.standard_normal(shape, np.float32) for shape in ((INPUTS, width), (width, OUTPUTS)))
    weights = [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(narrow, "narrow")]
    nodes = [helper.make_node("MatMul", ["x", "wide"], ["h"]), helper.make_node("MatMul", ["h", "narrow"], ["y"])]
    model = save(folder / "model.onnx", nodes, {"x": [1, INPUTS]}, {"y": [1, OUTPUTS]}, weights)
    x = rng.standard_normal((4, 1, INPUTS), np.float32)
    golden = folder / "golden.npz"
    write_samples(str(golden), {"input:x": x, "reference:y": x @ wide @ narrow})
    return model, golden


def publish(workspace: Workspace, model: Path, golden: Path) -> None:
    """Sign a release of the model for the boards."""
    make_keys(workspace)
    tree, now = Tree.open(workspace), time.time()
    files: list[Artifact] = [workspace.artifacts.add(model, "onnx"), workspace.artifacts.add(golden, "npz")]
    for path, file in zip((model, golden), files, strict=True):
        tree.put_blob(path, file)
    machines = (platform.machine(),)
    entry = ReleaseEntry("made", *files, Settings(), machines, "", HealthLimits(0.99, runs=20))
    release = Release(APP, VERSION, 1, round(now), round(now) + 86400, {PROFILE: entry})
    tree.put_manifest(release, manifest_bytes(release), now)
