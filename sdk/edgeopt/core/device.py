"""One board: how to reach it, and what it said about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Device:
    """A board of the inventory.

    Attributes:
        name: Name in the inventory; ``local`` is this machine.
        transport: ``local`` (a child process) or ``ssh``.
        host: Address or ssh_config alias; empty for ``local``.
        port: SSH port; ``None`` takes ssh_config's or 22.
        user: Login name; ``None`` takes ssh_config's or the current user.
        identity_file: Private key; ``None`` takes ssh_config's, the agent's and the usual files.
        jump: ProxyJump hops, ``user@host:port`` separated by commas; ``None`` takes ssh_config's.
        python: The interpreter on the device; ``None`` finds one.
        root: The folder on the device that everything goes into; ``~`` is the login's home.
        profile: Name of its profile; ``None`` is found by probing.
        labels: Free words for selecting.
    """

    name: str
    transport: Literal["local", "ssh"]
    host: str = ""
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    jump: str | None = None
    python: str | None = None
    root: str = "~/.edgeopt"
    profile: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


LOCAL = Device(name="local", transport="local")


@dataclass(frozen=True)
class RuntimeFacts:
    """One inference runtime that the device's interpreter can load.

    Attributes:
        name: Engine name, for example ``onnxruntime``.
        version: As the runtime says it.
        providers: Execution providers, delegates or devices it offers.
        interpreter: Path of the interpreter that has it, on the device; for display only.
    """

    name: str
    version: str
    providers: tuple[str, ...] = ()
    interpreter: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """What the probe found. Everything that a device cannot tell is empty or 0.

    Attributes:
        model: Board or machine name (device tree, DMI).
        machine: ``uname -m``.
        bits: Pointer size of the interpreter's userland, 32 or 64.
        cpu: CPU's marketing name.
        isa: The flags that matter to inference, sorted (``avx2``, ``avx512_vnni``, ``asimddp``, ...).
        cores_logical: Logical CPUs that we may use.
        cores_physical: Physical cores among them.
        memory_bytes: Installed RAM, or the limit that a container sets.
        memory_available_bytes: MemAvailable at probe time.
        disk_free_bytes: Free space where the runner's folder is.
        os: PRETTY_NAME.
        kernel: ``uname -r``.
        libc: For example ``glibc 2.36``.
        python: Version of the interpreter that runs the runner.
        governor: CPU frequency governor, where there is one.
        power_mode: Vendor's power mode, where there is one.
        temperature_celsius: Hottest CPU zone, or ``None``.
        boot_id: Changes with every boot.
        runtimes: What can run a model there.
        fingerprint: Digest of the facts that a measurement depends on (not of load, space or temperature).
    """

    model: str
    machine: str
    bits: int
    cpu: str
    isa: tuple[str, ...]
    cores_logical: int
    cores_physical: int
    memory_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int
    os: str
    kernel: str
    libc: str
    python: str
    governor: str
    power_mode: str
    temperature_celsius: float | None
    boot_id: str
    runtimes: tuple[RuntimeFacts, ...]
    fingerprint: str

    def runtime(self, name: str) -> RuntimeFacts | None:
        """The facts of runtime `name`, or ``None`` where the device has none."""
        return next((runtime for runtime in self.runtimes if runtime.name == name), None)
