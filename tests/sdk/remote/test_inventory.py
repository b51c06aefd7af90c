from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeopt.core.device import LOCAL, Device
from edgeopt.errors import DocumentError, UnknownDeviceError, UsageError
from edgeopt.remote.inventory import Inventory

BOARD = Device("shop-7", "ssh", host="10.0.0.7", port=2222, user="pi", labels={"site": "berlin"})


@pytest.fixture
def inventory(computer: Path) -> Inventory:
    return Inventory(computer / "edgeopt" / "devices.yaml")


def test_what_was_added_is_found_again_and_the_file_is_short(inventory: Inventory) -> None:
    assert inventory.devices() == ()
    inventory.add(BOARD)
    inventory.add(Device("other", "ssh", host="alias"))
    assert inventory.find("shop-7") == BOARD
    assert [device.name for device in inventory.devices()] == ["shop-7", "other"]
    assert "jump" not in inventory.path.read_text()


def test_adding_again_replaces_and_removing_forgets(inventory: Inventory) -> None:
    inventory.add(BOARD)
    inventory.add(Device("shop-7", "ssh", host="10.0.0.8"))
    assert [device.host for device in inventory.devices()] == ["10.0.0.8"]
    inventory.remove("shop-7")
    assert inventory.devices() == ()
    with pytest.raises(UnknownDeviceError):
        inventory.remove("shop-7")


def test_an_unknown_name_says_what_is_known_and_how_to_add_it(inventory: Inventory) -> None:
    inventory.add(BOARD)
    with pytest.raises(UnknownDeviceError) as caught:
        inventory.find("shop-8")
    assert str(caught.value) == (
        "there is no device 'shop-8' (known: shop-7). Add it: edgeopt device add shop-8 user@host"
    )


@pytest.mark.parametrize("name", ["local", "", "../x", "a b", "-x", "x" * 65, "a/b", "pi@host"])
def test_names_that_cannot_be_used_are_refused(inventory: Inventory, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a device's name"):
        inventory.add(Device(name, "ssh", host="h"))
    assert not inventory.path.exists()


def test_targets_are_names_addresses_and_aliases(inventory: Inventory, computer: Path) -> None:
    inventory.add(BOARD)
    (computer / ".ssh" / "config").write_text("Host lab\n HostName 10.1.1.1\n")
    assert inventory.resolve("local") == LOCAL
    assert inventory.resolve("shop-7") == BOARD
    assert inventory.resolve("pi@10.0.0.5:2200") == Device(
        "pi@10.0.0.5:2200", "ssh", host="10.0.0.5", port=2200, user="pi"
    )
    assert inventory.resolve("lab") == Device("lab", "ssh", host="lab")
    assert inventory.resolve("jetson") is None
    with pytest.raises(UsageError):
        inventory.resolve("pi@")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid YAML"),
        ("- shop-7", "no list `devices`"),
        ("devices: [shop-7]", "device 1"),
        ("devices: [{name: a, host: h, port: many}]", "device 1: port is 'many'"),
        ("devices: [{name: a, hots: h}]", "'hots' is no field"),
        ("devices: [{name: a, host: h}, {name: a, host: g}]", "'a' is there twice"),
        ("devices: [{host: h}]", "device 1: name"),
    ],
)
def test_a_file_that_does_not_fit_is_told_where(inventory: Inventory, text: str, message: str) -> None:
    inventory.path.parent.mkdir(parents=True)
    inventory.path.write_text(text)
    with pytest.raises(DocumentError, match=message.replace("[", r"\[")):
        inventory.devices()


def test_commands_that_add_at_the_same_time_lose_nothing(inventory: Inventory) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeopt.core.device import Device;"
        "from edgeopt.remote.inventory import Inventory;"
        "[Inventory(Path(sys.argv[1])).add(Device(f'{sys.argv[2]}{i}', 'ssh', host='h')) for i in range(5)]"
    )
    command = [sys.executable, "-c", code, str(inventory.path)]
    processes = [subprocess.Popen([*command, prefix]) for prefix in ("a", "b", "c")]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(inventory.devices()) == 15
