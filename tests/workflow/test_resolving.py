"""Which device and profile a target comes to, and what the user is told of boards that nobody knows."""

import pytest

from edgeopt.core.device import Device
from edgeopt.errors import UnknownDeviceError
from edgeopt.workflow.listener import Silence
from edgeopt.workflow.resolving import Aim, profile_for
from edgeopt_targets.profile_files import find_profile
from support.boards import board_facts

SHELF = Device(name="shelf", transport="ssh", host="192.0.2.7")


class Heard(Silence):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def profile_of(facts, named=None):
    heard = Heard()
    found = profile_for(Aim(SHELF, find_profile(named) if named else None), facts, "shelf", heard)
    return found.name, heard.notes


def test_a_board_that_no_profile_knows_is_said_once_with_what_it_goes_by():
    name, notes = profile_of(board_facts("Radxa ROCK 5B"))
    assert name == "aarch64"
    assert len(notes) == 1
    assert "no profile for 'Radxa ROCK 5B'" in notes[0]


def test_nothing_is_said_of_a_known_board_or_of_a_profile_that_the_user_named():
    assert profile_of(board_facts()) == ("raspberry-pi-4", [])
    assert profile_of(board_facts("Radxa ROCK 5B"), "aarch64") == ("aarch64", [])


def test_a_machine_that_nobody_has_heard_of_goes_by_the_generic_profile():
    assert profile_of(board_facts("thing", machine="e2k"))[0] == "generic"
    assert profile_of(board_facts("thing", machine="e2k"), "generic")[0] == "generic"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (board_facts(machine="x86_64"), "is for aarch64 or arm64, 64-bit; 'shelf' is x86_64, 64-bit"),
        (board_facts(bits=32), "is for aarch64 or arm64, 64-bit; 'shelf' is aarch64, 32-bit"),
    ],
)
def test_a_profile_for_another_kind_of_userland_is_refused(facts, reason):
    with pytest.raises(UnknownDeviceError, match=reason):
        profile_of(facts, "raspberry-pi-4")
