"""`fleet.yaml`, Ansible's inventories and ssh_config as boards."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.device import Device
from edgeopt.core.fleet import Window
from edgeopt.errors import DocumentError, EdgeoptError, UsageError
from edgeopt.fleet.ansible import decode_ini, decode_tree
from edgeopt.remote.inventory import Inventory
from edgeopt.workflow.fleet.inventory_file import import_ansible, import_ssh_config, read_fleet, write_fleet

FLEET = """\
defaults:
  user: edge
  key: ~/.ssh/fleet
  zone: Europe/Oslo
  labels: {region: north}
groups:
  night: {window: "mon-fri 01:00-04:30"}
  oslo:
    site: oslo
    jump: gate@oslo.example:2222
    labels: [indoor]
boards:
  press-1: {host: 10.0.0.1, profile: pi5, groups: [oslo, night], labels: {tier: canary}}
  press-2:
    host: 10.0.0.2
    port: 2022
    site: bergen
    labels: {region: west, floor: 3, spare: true}
  bench: {device: lab, group: oslo, root: /data/edgeopt}
"""


def write(folder: Path, text: str, name: str = "fleet.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def devices(folder: Path) -> Inventory:
    inventory = Inventory(folder / "devices.yaml")
    inventory.add(Device("lab", "ssh", host="192.168.0.7", user="pi", profile="pi4", labels={"owner": "eve"}))
    return inventory


def test_boards_are_completed_by_groups_and_defaults(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path, FLEET), devices(tmp_path))
    one, two, bench = fleet.boards
    assert one.device == Device(
        "press-1", "ssh", host="10.0.0.1", user="edge", identity_file="~/.ssh/fleet", jump="gate@oslo.example:2222",
        profile="pi5", labels={"region": "north", "indoor": "yes", "tier": "canary"},
    )  # fmt: skip
    assert (one.site, one.zone) == ("oslo", "Europe/Oslo")
    assert one.window == Window(("mon", "tue", "wed", "thu", "fri"), 60, 270)
    assert (two.site, two.device.port, two.window, two.device.jump) == ("bergen", 2022, None, None)
    assert two.device.labels == {"region": "west", "floor": "3", "spare": "yes"}
    # a device that was added says itself how it is reached
    assert (bench.device.host, bench.device.user, bench.device.profile) == ("192.168.0.7", "pi", "pi4")
    assert bench.device.root == "/data/edgeopt"
    assert bench.device.labels == {"owner": "eve", "region": "north", "indoor": "yes"}


@pytest.mark.parametrize(
    ("field", "attribute", "value"),
    [
        ("profile", "profile", "orin"), ("root", "root", "/data"), ("key", "identity_file", "~/.ssh/other"),
        ("port", "port", 2022), ("user", "user", "eve"), ("host", "host", "10.0.0.9"),
    ],
)  # fmt: skip
def test_a_board_wins_over_its_device_which_wins_over_groups_and_defaults(
    tmp_path: Path, field: str, attribute: str, value: object
) -> None:
    lab = Device("lab", "ssh", host="h", port=22022, user="pi", root="/r", profile="pi4", identity_file="~/.ssh/lab")
    known = Inventory(tmp_path / "devices.yaml")
    known.add(lab)
    text = (
        f"defaults: {{{field}: {value}}}\nboards: {{says: {{device: lab, {field}: {value}}}, silent: {{device: lab}}}}"
    )
    says, silent = read_fleet(write(tmp_path, text), known).boards
    assert getattr(says.device, attribute) == value
    assert getattr(silent.device, attribute) == getattr(lab, attribute)


def test_a_fleet_is_written_as_it_is_read(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path, FLEET), devices(tmp_path))
    write_fleet(tmp_path / "again.yaml", fleet)
    assert read_fleet(tmp_path / "again.yaml") == fleet
    with pytest.raises(UsageError, match=r"again\.yaml is there already"):
        write_fleet(tmp_path / "again.yaml", fleet)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("port: 2022", "port: 99999", r"fleet\.yaml:16: port is '99999'"),
        ("site: bergen", "sight: bergen", r"fleet\.yaml:17: 'sight' is no field\. Known: host, user"),
        ("01:00-04:30", "01:00-25:30", r"fleet\.yaml:13: .*25:30 is no time of the day"),
        ("Europe/Oslo", "Europe/Atlantis", "'Europe/Atlantis' is no time zone"),
        ("group: oslo", "group: roma", r"fleet\.yaml:19: there is no group 'roma'\. Groups: night, oslo"),
        ("device: lab", "device: labb", r"fleet\.yaml:19: there is no device 'labb'\. Known: lab"),
        ("host: 10.0.0.2", "host: 10", r"fleet\.yaml:15: host is '10', which is no text\. Write it in quotes"),
        ("boards:", "board:", r"fleet\.yaml:12: 'board' is no field"),
        ("press-1:", "'../etc':", r"fleet\.yaml:13: '\.\./etc' cannot be a board's name"),
        ("floor: 3", "floor: [3]", r"fleet\.yaml:18: the label 'floor' is '\[3\]'"),
        ("labels: [indoor]", "labels: 7", r"fleet\.yaml:11: groups\.oslo\.labels is '7'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    assert was in FLEET
    with pytest.raises(DocumentError, match=message):
        read_fleet(write(tmp_path, FLEET.replace(was, becomes)), devices(tmp_path))


def test_without_a_file_the_devices_are_the_fleet(tmp_path: Path) -> None:
    assert [board.name for board in read_fleet(tmp_path / "no.yaml", devices(tmp_path)).boards] == ["lab"]
    with pytest.raises(UsageError, match=r"there is no .*no\.yaml and no device"):
        read_fleet(tmp_path / "no.yaml", Inventory(tmp_path / "none.yaml"))
    with pytest.raises(DocumentError, match="there are no boards"):
        read_fleet(write(tmp_path, "boards: {}"))


INI = """\
# cameras of the shops
lonely ansible_host=10.1.0.1

[web]
cam[01:03].example ansible_port=2222 ansible_user=pi
door-[a:b]

[web:vars]
ansible_ssh_private_key_file=~/.ssh/cams
ansible_ssh_common_args='-o ProxyJump=jump@gate:2200 -o ControlMaster=auto'
edgeopt_profile=pi5

[lab]
bench edgeopt_profile=orin ansible_user=eve  # a comment

[north:children]
web
lab

[north:vars]
ansible_user=edge
edgeopt_site=oslo
edgeopt_window="mon-fri 01:00-04:30"

[all:vars]
edgeopt_zone=Europe/Oslo
"""


def test_an_ini_inventory_is_read_as_ansible_reads_it() -> None:
    fleet = decode_ini(INI, where="hosts")
    assert [board.name for board in fleet.boards] == [
        "lonely", "cam01.example", "cam02.example", "cam03.example", "door-a", "door-b", "bench",
    ]  # fmt: skip
    cam, door, bench = fleet.board("cam02.example"), fleet.board("door-b"), fleet.board("bench")
    assert cam.device == Device(
        "cam02.example", "ssh", host="cam02.example", port=2222, user="pi", identity_file="~/.ssh/cams",
        jump="jump@gate:2200", profile="pi5", labels={"north": "yes", "web": "yes"},
    )  # fmt: skip
    assert (door.device.user, door.site, door.zone) == ("edge", "oslo", "Europe/Oslo")
    assert (bench.device.user, bench.profile, bench.device.jump) == ("eve", "orin", None)
    assert bench.window is not None
    lonely = fleet.board("lonely")
    assert (lonely.device.host, lonely.site, lonely.device.labels) == ("10.1.0.1", "", {})


TREE = """\
all:
  vars: {edgeopt_zone: Europe/Oslo}
  hosts:
    lonely: {ansible_host: 10.1.0.1}
  children:
    north:
      vars: {ansible_user: edge, edgeopt_site: oslo}
      children:
        web:
          vars: {edgeopt_profile: pi5, ansible_ssh_common_args: "-J jump@gate:2200"}
          hosts:
            cam[01:02]: {ansible_port: 2222}
        lab:
          hosts:
            bench: {ansible_user: eve}
"""


def test_yaml_and_the_exported_json_give_the_same_boards(tmp_path: Path) -> None:
    fleet = import_ansible(write(tmp_path, TREE, "hosts.yml"))
    cam = fleet.board("cam02")
    assert (cam.device.user, cam.device.port, cam.device.jump, cam.site) == ("edge", 2222, "jump@gate:2200", "oslo")
    assert cam.device.labels == {"north": "yes", "web": "yes"}
    assert fleet.board("bench").device.user == "eve"
    listed = {  # as `ansible-inventory --list --export` prints it
        "_meta": {"hostvars": {
            "lonely": {"ansible_host": "10.1.0.1"}, "cam01": {"ansible_port": 2222}, "cam02": {"ansible_port": 2222},
            "bench": {"ansible_user": "eve"},
        }},
        "all": {"children": ["ungrouped", "north"], "vars": {"edgeopt_zone": "Europe/Oslo"}},
        "ungrouped": {"hosts": ["lonely"]},
        "north": {"children": ["web", "lab"], "vars": {"ansible_user": "edge", "edgeopt_site": "oslo"}},
        "web": {"hosts": ["cam01", "cam02"],
                "vars": {"edgeopt_profile": "pi5", "ansible_ssh_common_args": "-J jump@gate:2200"}},
        "lab": {"hosts": ["bench"]},
    }  # fmt: skip
    again = import_ansible(write(tmp_path, json.dumps(listed), "inventory.json"))
    assert sorted(again.boards, key=str) == sorted(fleet.boards, key=str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#!/usr/bin/env python3\nprint(1)\n",
            "is a program, a dynamic inventory; it is not run. .*ansible-inventory --list",
        ),
        ("host ansible_user='{{ who }}'", "is a template or a secret of Ansible's"),
        ("host ansible_ssh_common_args='-o ProxyCommand=nc'", "is reached through a ProxyCommand"),
        ("host ansible_connection=docker", "is reached by 'docker', not by SSH"),
        ("[a:children]\nb\n[b:children]\na\n[a]\nh\n", "the group (a|b) is inside itself"),
        ("web[10:01]", r"hosts:1: \[10:01\] is no range"),
        ("web[1:", "no host and no range"),
        ("[a\nx", "no host and no range"),
        ("host what", "after the host come variables"),
        ("host 'open", "No closing quotation"),
        ("[a:vars]\nnonsense\n", "hosts:2: 'nonsense' is no variable"),
        ("", "has no host"),
        ("h[0:99999][0:99999]", "more than 100000 hosts"),
        ("h[0:999999999]", "is no range"),
        ("../../etc/passwd", "cannot be a board's name"),
        ("host ansible_port=banana", "port is 'banana'"),
    ],
)
def test_inventories_that_cannot_be_read_say_why(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        decode_ini(text, where="hosts")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"plugin": "aws_ec2"}, "is for the inventory plugin 'aws_ec2'. .*ansible-inventory"),
        ([1], "is no inventory"),
        ({"all": {"host": {}}}, r"all\.host is no part of a group"),
        ({"all": {"hosts": ["a"]}}, r"all\.hosts is .*not names with values"),
        ({"_meta": {"hostvars": 3}, "a": {"hosts": ["x"]}}, "hostvars is '3'"),
    ],
)
def test_documents_that_do_not_fit_say_where(document: object, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        decode_tree(document, where="hosts.yml")


@given(st.text(alphabet="[]:=#'\"ab1\n .-{}$", max_size=80))
def test_no_text_does_more_than_raise_our_error(text: str) -> None:
    with contextlib.suppress(EdgeoptError):
        decode_ini(text, where="hosts")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["boards", "groups", "defaults", "labels", "host", "a", "window"]), inner, max_size=4
            )
        ),
        max_leaves=15,
    )
)
def test_no_document_does_more_than_raise_our_error(document: object) -> None:
    from edgeopt.fleet.inventory import decode_fleet

    for decoded in (decode_fleet, decode_tree):
        with contextlib.suppress(EdgeoptError):
            decoded(document, where="x")  # type: ignore[operator]


def test_hosts_of_ssh_config_are_boards(tmp_path: Path) -> None:
    config = write(tmp_path, "Host cam1 cam2\n  User pi\nHost *.example\n  Port 22\n", "config")
    assert [board.device.host for board in import_ssh_config(config).boards] == ["cam1", "cam2"]
    with pytest.raises(DocumentError, match="names no host"):
        import_ssh_config(write(tmp_path, "", "empty"))
