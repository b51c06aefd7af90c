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
class PythonFacts:
    """One interpreter on the device.

    Attributes:
        path: Where it is.
        version: For example ``3.11.2``; only ``3.11`` where the name of the file is all that is known.
    """

    path: str
    version: str


@dataclass(frozen=True)
class PackageFacts:
    """One runtime's Python package that is installed on the device, read from its metadata and never imported.

    Attributes:
        name: The runtime: ``onnxruntime``, ``litert``, ``tflite_runtime``, ``tensorrt``, ``openvino``, ``executorch``,
            ``ncnn`` or ``mnn``.
        version: As the metadata says it.
        package: Name of the distribution, for example ``onnxruntime-gpu``.
        python: Version of the interpreter that it is for, for example ``3.10``; empty where the folder does not say.
    """

    name: str
    version: str
    package: str = ""
    python: str = ""


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
        compatible: The device tree's names for the board, from the most special to the SoC, for example
            ``raspberrypi,5-model-b``, ``brcm,bcm2712``; empty without a device tree.
        kernel_bits: 32 or 64, of the kernel; `bits` is of the interpreter, and 32 on 64 is common on ARM boards.
        page_bytes: Size of a memory page; 16384 on a Raspberry Pi 5's usual kernel.
        swap_bytes: Size of the swap.
        max_khz: Highest clock of the fastest core that the hardware allows.
        cores_fast: Logical CPUs of the fastest kind, where there is more than one kind.
        os_id, os_version: ID and VERSION_ID of os-release, for example ``debian`` and ``12``.
        pythons: Interpreters found.
        packages: Runtimes installed, whether or not they can be loaded; `runtimes` are those that can.
        l4t: NVIDIA's release of Linux for a Jetson, for example ``36.4.3``; empty elsewhere.
        jetpack: The JetPack that it belongs to: ``6.2``, or only ``6`` where the release is in no table.
        libraries: Versions of ``cuda``, ``cudnn`` and ``tensorrt``, as far as installed.
        gpus: Names of the GPUs that a runtime could use.
        alarms: What the board says is wrong with its power or heat, now or since boot, for example
            ``under-voltage now`` or ``throttled since boot``.
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
    compatible: tuple[str, ...] = ()
    kernel_bits: int | None = None
    page_bytes: int | None = None
    swap_bytes: int | None = None
    max_khz: int | None = None
    cores_fast: int | None = None
    os_id: str = ""
    os_version: str = ""
    pythons: tuple[PythonFacts, ...] = ()
    packages: tuple[PackageFacts, ...] = ()
    l4t: str = ""
    jetpack: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()

    def runtime(self, name: str) -> RuntimeFacts | None:
        """The facts of runtime `name`, or ``None`` where the device has none."""
        return next((runtime for runtime in self.runtimes if runtime.name == name), None)
