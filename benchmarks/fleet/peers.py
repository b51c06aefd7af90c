"""Other tools that bring one file to many hosts over SSH, each in an environment of its own that is made on first use.

They are called as their documentations do, with as many hosts at a time. One that does not install is told with its
reason. OpenSSH's own `scp`, a process for every host, takes part to show what the machine can do at most.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loopback import Loopback

from support.sshd import Sshd

FOLDER = Path(__file__).with_name("build")
INSTALL_SECONDS, DEADLINE_SECONDS = 600.0, 900.0
PYINFRA = """
from pyinfra import host
from pyinfra.operations import files

files.put(name="model", src={source!r}, dest=host.data.place)
"""
PARALLEL_SSH = """
import sys
from gevent import joinall
from pssh.clients import ParallelSSHClient
from pssh.config import HostConfig

way, user, key, source, forks = sys.argv[1:6]
places = [line.split(" ", 1) for line in sys.stdin.read().splitlines()]
config = [HostConfig(user=user, port=int(port), private_key=key) for port, _ in places]
client = ParallelSSHClient(
    ["127.0.0.1"] * len(places), host_config=config, pool_size=int(forks), allow_agent=False, identity_auth=False
)
names = [{"local_file": source, "remote_file": place} for _, place in places]
joinall(getattr(client, way)("%(local_file)s", "%(remote_file)s", copy_args=names), raise_error=True)
"""


class UnavailableError(Exception):
    """A tool is not here and cannot be installed."""


@dataclass(frozen=True)
class Peer:
    """A tool.

    Attributes:
        name: For the table.
        does: What it does with the file beside bringing it.
        most: Largest share of its time that edgeopt may take; ``None``: it is only shown.
        copy: Brings the model to all boards, so many at a time.
        package: What it is installed from; empty: it is here.
    """

    name: str
    does: str
    most: float | None
    copy: Callable[[Loopback, int], None]
    package: str = ""

    def install(self) -> None:
        """Make its environment.

        Raises:
            UnavailableError: It cannot be installed, or is not here.
        """
        if not self.package:
            if shutil.which("scp") is None:
                raise UnavailableError("there is no scp")
            return
        folder = environment(self.package)
        if (folder / "complete").exists():
            return
        try:
            venv.create(folder, with_pip=True, clear=True)
            child([folder / "bin/python", "-m", "pip", "install", "-q", self.package], seconds=INSTALL_SECONDS)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise UnavailableError(" ".join(str(error).split())[:160]) from None
        (folder / "complete").touch()


def environment(package: str) -> Path:
    """The folder of a package's environment."""
    return FOLDER / package.replace("==", "-")


def child(words: list[object], *, seconds: float = DEADLINE_SECONDS, said: str = "", **variables: str) -> None:
    """Run a command to its end; an error with its last words where it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        input=said,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "LC_ALL": "C.UTF-8", **variables},
        check=False,
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
        raise RuntimeError(lines[-1])


def ansible(boards: Loopback, forks: int, **variables: str) -> None:
    """`ansible all -m copy`, a playbook's step without the playbook."""
    inventory = boards.folder / "hosts.ini"
    inventory.write_text("".join(f"{ansible_host(boards, one)}\n" for one in boards.servers))
    binary = environment(ANSIBLE) / "bin/ansible"
    words = [binary, "all", "-i", inventory, "-f", forks, "-m", "ansible.builtin.copy"]
    with control_sockets() as sockets:
        options = f"-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={boards.known_hosts}"
        compress = variables.pop("compress", "-C ")
        settings = {"ANSIBLE_SSH_ARGS": compress + options, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets)}
        settings |= {"ANSIBLE_HOME": str(boards.folder / "ansible"), **variables}
        child([*words, "-a", f"src={boards.model} dest={{{{ place }}}}"], **settings)


def ansible_tuned(boards: Loopback, forks: int) -> None:
    """The same as those who know it well set it: pipelining, and no compression of what does not compress."""
    ansible(boards, forks, compress="", ANSIBLE_PIPELINING="True")


def ansible_host(boards: Loopback, server: Sshd) -> str:
    """A line of its inventory; with the interpreter named, it need not look for one."""
    fields = {
        "ansible_host": server.host,
        "ansible_port": server.port,
        "ansible_user": server.user,
        "ansible_ssh_private_key_file": boards.key,
        "ansible_python_interpreter": sys.executable,
        "place": boards.copy_of(server),
    }
    return " ".join([server.folder.name, *(f"{name}={value}" for name, value in fields.items())])


@contextlib.contextmanager
def control_sockets() -> Iterator[Path]:
    """A folder with a short name for the sockets of connections that Ansible leaves open; they are closed after."""
    folder = Path(tempfile.mkdtemp(prefix="cp"))
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            with contextlib.suppress(RuntimeError):
                child(["ssh", "-O", "exit", "-o", f"ControlPath={path}", "any"])
        shutil.rmtree(folder, ignore_errors=True)


def pyinfra(boards: Loopback, forks: int) -> None:
    """`pyinfra inventory.py deploy.py` with `files.put`."""
    rows = []
    for server in boards.servers:
        fields = {"ssh_hostname": server.host, "ssh_port": server.port, "ssh_user": server.user}
        fields |= {"ssh_key": str(boards.key), "ssh_known_hosts_file": str(boards.known_hosts)}
        fields |= {"ssh_allow_agent": False, "ssh_look_for_keys": False, "place": str(boards.copy_of(server))}
        rows.append((server.folder.name, fields))
    inventory, deploy = boards.folder / "inventory.py", boards.folder / "put.py"
    inventory.write_text(f"hosts = {rows!r}\n")
    deploy.write_text(PYINFRA.format(source=str(boards.model)))
    child([environment(PYINFRA_PACKAGE) / "bin/pyinfra", inventory, deploy, "-y", "--parallel", forks])


def parallel_ssh(way: str) -> Callable[[Loopback, int], None]:
    """parallel-ssh by one of its two ways: ``copy_file`` (SFTP) or ``scp_send``."""

    def copy(boards: Loopback, forks: int) -> None:
        script = boards.folder / "parallel_ssh.py"
        script.write_text(PARALLEL_SSH)
        places = "".join(f"{server.port} {boards.copy_of(server)}\n" for server in boards.servers)
        words = [environment(PARALLEL_SSH_PACKAGE) / "bin/python", script, way]
        child([*words, boards.servers[0].user, boards.key, boards.model, forks], said=places)

    return copy


def scp(boards: Loopback, forks: int) -> None:
    """A process of OpenSSH's `scp` for every board."""

    def one(server: Sshd) -> None:
        options = ["-q", "-P", server.port, "-i", boards.key, "-o", f"UserKnownHostsFile={boards.known_hosts}"]
        target = f"{server.user}@{server.host}:{boards.copy_of(server)}"
        child(["scp", *options, "-o", "IdentitiesOnly=yes", boards.model, target])

    with ThreadPoolExecutor(forks) as pool:
        list(pool.map(one, boards.servers))


ANSIBLE, PYINFRA_PACKAGE, PARALLEL_SSH_PACKAGE = (
    "ansible-core==2.19.14",
    "pyinfra==3.10.0",
    "parallel-ssh==2.16.0.post1",
)
_DIGESTS, _NONE = "SHA-1 compared, no sync", "no digest, no sync"
PEERS = (
    Peer("Ansible copy", _DIGESTS, 0.5, ansible, ANSIBLE),
    Peer("Ansible copy, tuned", _DIGESTS, None, ansible_tuned, ANSIBLE),
    Peer("pyinfra files.put", "SHA-1 of what is there, no sync", 1.0, pyinfra, PYINFRA_PACKAGE),
    Peer("parallel-ssh copy_file", _NONE, 1.0, parallel_ssh("copy_file"), PARALLEL_SSH_PACKAGE),
    Peer("parallel-ssh scp_send", _NONE, None, parallel_ssh("scp_send"), PARALLEL_SSH_PACKAGE),
    Peer("scp, a process a host", _NONE, None, scp),
)
