"""`edgeopt keys ...`: whose signatures boards believe, and how the keys stand.

Exit codes: 0 done; 2 the user can fix it; 3 it is made, and counts once other people have signed it, too.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.signing.repository import Repository

app = typer.Typer(no_args_is_help=True, help="Make, replace and look at the keys that sign releases.")

Role = Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot, timestamp or rollouts.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that waits for signatures.")]
Open = Annotated[
    bool, typer.Option("--no-passphrase", help="Do not lock the key: whoever reads the file can sign with it.")
]


def _repository() -> Repository:
    from edgeopt.signing.repository import Repository

    return Repository()


def _new_passphrase(no_passphrase: bool) -> str | None:
    """What locks a new key: from the environment, or typed twice; ``None`` for none at all."""
    from edgeopt.errors import SigningError
    from edgeopt.signing.key_folder import PASSPHRASE_VARIABLE

    if no_passphrase:
        sys.stderr.write("edgeopt: the keys that should be offline lie open; whoever reads them can sign for you.\n")
        return None
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is None:
        if not sys.stdin.isatty():
            raise SigningError(
                "there is nobody to ask for a passphrase.",
                remedy=f"Set {PASSPHRASE_VARIABLE}, or give --no-passphrase.",
            )
        given = getpass.getpass("New passphrase for the keys of root and targets: ")
        if getpass.getpass("Again: ") != given:
            raise SigningError("the two passphrases differ.", remedy="Type the same one twice.")
    if not given:
        raise SigningError("the passphrase is empty.", remedy="Give one, or --no-passphrase.")
    return given


def _say(as_json: bool, document: dict[str, Any], *lines: str) -> None:
    """One document, or lines that are not broken in paths."""
    if as_json:
        output.print_json(document)
        return
    for line in lines:
        output.console().print(line, soft_wrap=True, markup=False)


def _logged(what: str, subject: str, why: str = "") -> AbstractContextManager[None]:
    """The deed in the audit log: a line before it, another where nothing came of it."""
    from edgeopt.home import home
    from edgeopt.store.audit import AUDIT_FILE, AuditLog
    from edgeopt.workflow.fleet.auditing import deed

    return deed(AuditLog(home() / AUDIT_FILE), what, subject, why)


@app.command()
def init(
    no_passphrase: Open = False,
    recovery: Annotated[
        Path | None, typer.Option("--recovery", help="Folder for copies of the root and targets keys.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make a usable set of keys, and the empty tree that they sign."""
    from edgeopt.signing.setup import initialise

    passphrase = _new_passphrase(no_passphrase)
    with _logged("keys.init", "all roles", "not locked" if no_passphrase else ""):
        made = initialise(_repository(), passphrase=passphrase, recovery=recovery, now=time.time())
    _say(
        as_json,
        {"folder": str(made.folder), "recovery": str(made.recovery), "keys": made.keyids},
        f"Keys are in {made.folder}, locked with your passphrase: root and targets."
        if not no_passphrase
        else f"Keys are in {made.folder}, none of them locked.",
        f"Move {made.recovery} to a medium that is not in this computer: without the root key nobody can",
        "replace a lost or stolen key on boards that are enrolled.",
        "Next: edgeopt publish APP@VERSION --from RUN; for more than one holder: edgeopt keys add --help",
    )


@app.command()
def rotate(
    role: Role,
    replace: Annotated[
        str | None, typer.Option("--replace", help="First digits of the key to replace; default: those that are here.")
    ] = None,
    no_passphrase: Open = False,
    as_json: options.Json = False,
) -> None:
    """Replace the key of a role by a new one; boards follow by themselves with their next update."""
    from edgeopt.signing import roles, rotation

    passphrase = _new_passphrase(no_passphrase) if roles.policy(role).offline else None
    with _logged("keys.rotate", role, f"instead of {replace}" if replace else ""):
        made = rotation.rotate(_repository(), role, replace=replace, passphrase=passphrase, now=time.time())
    _say(as_json, {"role": role, "key": made}, f"{role} is signed with key {made[:16]} from now on.")


@app.command()
def add(
    role: Role,
    public: Annotated[
        Path | None, typer.Argument(metavar="FILE.pub", help="Another holder's public key (edgeopt keys new).")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", help="How many of the role's keys must sign from now on.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Let another holder's key count for a role, or say how many must sign."""
    from edgeopt.errors import UsageError
    from edgeopt.signing import rotation
    from edgeopt.signing.key_folder import read_public

    if public is None and threshold is None:
        raise UsageError("nothing is to be changed.", remedy="Give a FILE.pub, --threshold, or both.")
    key = read_public(public) if public is not None else None
    said = [f"key {key.keyid}"] if key else []
    with _logged("keys.add", role, ", ".join([*said, *([f"threshold {threshold}"] if threshold else [])])):
        rotation.change(_repository(), role, add=key, threshold=threshold, now=time.time())
    _status(as_json)


@app.command()
def remove(
    role: Role,
    key: Annotated[str, typer.Argument(metavar="KEY", help="First digits of the key.")],
    threshold: Annotated[
        int | None, typer.Option("--threshold", help="How many of the role's keys must sign from now on.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Let a key of a role count no more."""
    from edgeopt.signing import rotation

    with _logged("keys.remove", role, f"key {key}" + (f" threshold {threshold}" if threshold else "")):
        rotation.change(_repository(), role, remove=key, threshold=threshold, now=time.time())
    _status(as_json)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is for others.")],
    no_passphrase: Open = False,
    as_json: options.Json = False,
) -> None:
    """Make a key of your own, on your own computer."""
    from edgeopt.signing.key_folder import new_key

    made = new_key(file, _new_passphrase(no_passphrase)).public_key.keyid
    lines = f"Key {made[:16]} is in {file}.", f"Give {file}.pub to who keeps the tree: edgeopt keys add ROLE {file}.pub"
    _say(as_json, {"key": made, "private": str(file), "public": f"{file}.pub"}, *lines)


@app.command()
def sign(
    file: File,
    key: Annotated[Path, typer.Option("--key", "-k", help="Your private key.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Sign a file that waits for signatures, after showing what it says. Needs no tree."""
    from edgeopt.errors import UsageError
    from edgeopt.signing import approval
    from edgeopt.signing.key_folder import read_private

    says = approval.describe(approval.read(file))
    if not as_json:
        _say(False, {}, *says)
    if not yes and not (sys.stdin.isatty() and typer.confirm("Sign this?", default=False)):
        raise UsageError(f"{file} was not signed.", remedy="Answer y, or give --yes.")
    signer = read_private(key)
    approval.sign(file, signer)
    keyid = signer.public_key.keyid
    _say(as_json, {"file": str(file), "key": keyid, "says": list(says)}, f"{file} is signed with key {keyid[:16]}.")


@app.command("import")
def bring_in(file: File, as_json: options.Json = False) -> None:
    """Take a file that another holder has signed; with enough signatures it counts."""
    from edgeopt.signing import approval

    with _logged("keys.import", str(file)):
        written = approval.bring_in(_repository(), file, time.time())
    _say(as_json, {"signed": sorted(written)}, f"Signed and in the tree: {', '.join(sorted(written))}.")


@app.command()
def refresh(
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]...", help="Sign these too, whatever their age.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Sign again what is past half of its life; daily, for boards that pull."""
    written = sorted(_repository().refresh(time.time(), also=tuple(roles or ())))
    line = f"Signed again: {', '.join(written)}." if written else "Nothing is due."
    _say(as_json, {"signed": written}, line)


@app.command()
def status(as_json: options.Json = False) -> None:
    """Who must sign what, which keys are here, and what expires when."""
    _status(as_json)


_WORDS = {
    "good": "good",
    "soon": "sign again soon: edgeopt keys refresh {role}",
    "expired": "EXPIRED: edgeopt keys refresh {role}",
    "renewed": "signed again with the next command",
    "unsigned": "NOT SIGNED by these keys: edgeopt keys refresh {role}",
}


def _status(as_json: bool) -> None:
    from edgeopt import documents
    from edgeopt.report.layout import table
    from edgeopt.signing.approval import waiting
    from edgeopt.signing.condition import conditions

    repository = _repository()
    found, files = conditions(repository, time.time()), [str(path) for path in waiting(repository)]
    if as_json:
        output.print_json({"roles": [documents.plain(one) for one in found], "waiting": files})
        return
    made = table("role", "keys (*: here)", "needed", "version", "good until, UTC", "", right=(2, 3))
    for one in found:
        keys = "\n".join(key.keyid[:16] + "*" * key.here for key in one.keys)
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.expires))
        said = _WORDS[one.state].format(role=one.role)
        made.add_row(one.role, keys, str(one.threshold), str(one.version), until, said)
    output.console().print(made)
    for path in files:
        _say(False, {}, f"waits for signatures: {path}")
