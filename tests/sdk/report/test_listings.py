import io
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.console import Console

from edgeopt.core.device import LOCAL, Device, PackageFacts, PythonFacts
from edgeopt.report.terminal import print_checks, print_devices, print_facts, print_runs
from support.records import FACTS, HOSTILE


@dataclass(frozen=True)
class Finding:
    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Line:
    run_id: str
    started_at: float
    model: str
    device: str
    state: str
    winner: str | None


LINE = Line("r-20260101-7f3a", 1767225600.0, "net", "pi5", "done", "int8 / 1 thread")


def shown(show: Callable[[Console], None]) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=100))
    return stream.getvalue()


def test_devices_show_how_they_are_reached() -> None:
    board = Device("pi5", "ssh", "10.0.0.5", port=2222, user="pi", jump="gate", labels={"shop": "berlin"})
    text = shown(lambda console: print_devices([LOCAL, board], console))
    assert "this machine" in text
    assert "ssh pi@10.0.0.5:2222 via gate" in text
    assert "shop=berlin" in text


def test_empty_lists_say_how_to_begin() -> None:
    assert "edgeopt device add" in shown(lambda console: print_devices([], console))
    assert "edgeopt deploy" in shown(lambda console: print_runs([], console))


def test_facts_leave_out_what_the_device_cannot_tell() -> None:
    known = shown(lambda console: print_facts(FACTS, console))
    bare = shown(lambda console: print_facts(replace(FACTS, model="", temperature_celsius=None, runtimes=()), console))
    assert "Raspberry Pi 5" in known
    assert "51 °C" in known
    assert "onnxruntime 1.32.0 (CPUExecutionProvider)" in known
    assert "board" not in bare
    assert "°C" not in bare
    assert "edgeopt device provision" in bare


def test_facts_of_a_jetson_and_a_throttled_pi_show_what_their_owners_ask_for() -> None:
    old = PackageFacts("tensorrt", "8.6.2", package="tensorrt", python="3.8")
    jetson = replace(
        FACTS, l4t="36.4.3", jetpack="6.2", libraries={"cuda": "12.6", "tensorrt": "10.3.0"}, gpus=("Orin",),
        compatible=("nvidia,p3767-0005", "nvidia,tegra234"), packages=(old,),
    )  # fmt: skip
    text = shown(lambda console: print_facts(jetson, console))
    for words in (
        "JetPack 6.2 L4T 36.4.3",
        "cuda 12.6, tensorrt 10.3.0",
        "nvidia,tegra234",
        "tensorrt 8.6.2, which does",
    ):
        assert words in text
    pythons = (PythonFacts("/usr/bin/python3", "3.11.2"), PythonFacts("/opt/bin/python3.9", "3.9"))
    pi = replace(FACTS, bits=32, kernel_bits=64, page_bytes=16384, alarms=("under-voltage now",), pythons=pythons)
    text = shown(lambda console: print_facts(pi, console))
    for words in ("64-bit kernel, 16 KiB pages", "under-voltage now", "3.11.2 (also /opt/bin/python3.9 3.9)"):
        assert words in text


def test_checks_show_the_remedy_of_the_bad_ones_and_count_them() -> None:
    checks = [Finding("python", True, "3.11.2"), Finding("disk", False, "12 MiB free", "free 100 MiB in ~/.edgeopt")]
    text = shown(lambda console: print_checks(checks, console))
    assert "-> free 100 MiB" in text
    assert "2 checks, 1 to look at." in text
    assert "all good" in shown(lambda console: print_checks(checks[:1], console))


def test_runs_show_the_chosen_candidate() -> None:
    text = shown(lambda console: print_runs([LINE], console))
    assert "r-20260101-7f3a" in text
    assert "int8 / 1 thread" in text


def test_hostile_names_are_written_out_in_every_list() -> None:
    device = Device(HOSTILE, "ssh", HOSTILE, user=HOSTILE, labels={HOSTILE: HOSTILE})
    facts = replace(FACTS, model=HOSTILE, os=HOSTILE)
    for text in (
        shown(lambda console: print_devices([device], console)),
        shown(lambda console: print_facts(facts, console)),
        shown(lambda console: print_runs([replace(LINE, device=HOSTILE, run_id=HOSTILE)], console)),
        shown(lambda console: print_checks([Finding(HOSTILE, False, HOSTILE, HOSTILE)], console)),
    ):
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
