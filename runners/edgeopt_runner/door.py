"""The forced command of an SSH key that may talk to the runner and nothing else; no shell is ever started.

    restrict,command="PYTHON -I ROOT/runner/current/edgeopt_runner.pyz door --root ROOT" ssh-ed25519 AAAA...

What a host sends as its command is read, never run: `serve`, `receive` and `send` are done here, under the root that
the line names. The host's loader is answered as the loader would: with the runner that is here, or with the one that it
brings, if that is a signed target of the board's own trust. Without this gate signatures protect nothing: who has the
key of a login with a shell rewrites what verifies them. Of a board that is enrolled the key orders nothing that nobody
signed, not even the way back to an earlier release: that is a signed release, too.
"""

import hashlib
import os
import re
import shlex
import sys
import tempfile
import time
import zlib
from typing import Any, BinaryIO, Dict, List, NamedTuple, Optional

from edgeopt_runner import links, processes, storage, transfer
from edgeopt_runner.protocol import BAD_REQUEST, DIGEST_MISMATCH, RESTRICTED, TRUNCATED, frames
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.trust import targets
from edgeopt_runner.trust.state import DOOR_VARIABLE

COMMAND_VARIABLE = "SSH_ORIGINAL_COMMAND"
RUNNER_TARGET = "runner/edgeopt_runner.pyz"
BUNDLE = "edgeopt_runner.pyz"
LARGEST_COMMAND = 64 << 10
LARGEST_RUNNER_BYTES = 16 << 20
_ACTIONS = ("serve", "receive", "send")
_LOADER = ["exec", "/bin/sh", "-c"]
_LOADER_WORDS = 9
_SIZE = re.compile(r"[0-9]{1,15}\Z")

KINDS = ("update", "recheck", "return", "rebuild", "rollback", "rehearse", "measure", "layers", "pipeline", "activate")
"""Jobs that may come through; `provision` installs programs, which nobody has signed."""

_BACK = ("return", "rollback")
"""Jobs that make an older release run; where a board is enrolled, only one that is signed anew may do so."""

_NOT = ("enrol", "clean", "agent")
"""Verbs that change who is trusted, or take everything away; without arguments they only look."""

Asked = NamedTuple("Asked", [("action", str), ("sha256", str), ("size", int)])
"""What a host wants: ``serve``, ``receive`` or ``send`` of an object, or ``load`` of a runner."""


def read(command: str) -> Asked:
    """What a command asks for.

    Args:
        command: What the SSH client wanted to be run.

    Raises:
        Refusal: ``restricted``: anything that is not of the runner.
    """
    if not command or len(command) > LARGEST_COMMAND:
        raise _refused("a shell" if not command else "a command of %d characters" % len(command))
    try:
        words = shlex.split(command)
    except ValueError:
        raise _refused("%.80r" % command)
    if words[:3] == _LOADER and len(words) >= _LOADER_WORDS and words[4] == "edgeopt":
        return Asked("load", storage.check_digest(words[7]), _size(words[8]))
    start = next((place for place, word in enumerate(words[:5]) if word in _ACTIONS), None)
    if start is None or (start and words[0] != "exec"):
        raise _refused("%.80r" % command)
    return _asked(words[start], words[start + 1 :])


def _refused(what: str, remedy: str = "Log in with another key for that.") -> Refusal:
    return Refusal(RESTRICTED, "this key may only talk to the runner; refused: %s" % what, remedy)


def _asked(action: str, words: List[str]) -> Asked:
    if len(words) % 2 or not {"--root", "--sha256", "--size"} >= set(words[::2]):
        raise _refused("%s with %.80r" % (action, words))
    options = dict(zip(words[::2], words[1::2]))  # the root is ours, whatever they say
    digest = "" if action == "serve" else storage.check_digest(options.get("--sha256"))
    return Asked(action, digest, _size(options.get("--size", "")) if action == "receive" else 0)


def _size(text: str) -> int:
    if not _SIZE.match(text):
        raise Refusal(BAD_REQUEST, "size is %.80r" % text, "Send a number of bytes.")
    return int(text)


def check_request(root: str, verb: str, params: Dict[str, Any]) -> None:
    """Let only those requests pass that do not need more trust than an online host has.

    Nothing is checked where the runner was not started by the door.

    Raises:
        Refusal: ``restricted``.
    """
    if not os.environ.get(DOOR_VARIABLE):
        return
    job = params.get("job")
    fields = job if isinstance(job, dict) else {}
    kind = fields.get("kind")
    if verb in _NOT and params and not (verb == "enrol" and not params.get("replace")):
        raise _refused("the verb %s" % verb)
    if verb == "clean" or verb == "restrict":
        raise _refused("the verb %s" % verb)
    if verb == "submit" and kind not in KINDS:
        raise _refused("a job of kind %.40r" % (kind,))
    if verb == "submit" and kind in _BACK and targets.enrolled(root):
        remedy = "Go back by a signed release: edgeopt fleet rollback; or log in with another key."
        raise _refused("the way back to a release without a signature", remedy)
    if fields.get("insecure_unsigned") or params.get("insecure_unsigned"):
        raise _refused("what is not signed")


def enter(root: str, answers: BinaryIO) -> int:
    """Entry of the action ``door``; returns the exit code.

    Args:
        root: The runner's root, from the line in `authorized_keys`.
        answers: Where frames go.
    """
    from edgeopt_runner import server

    os.environ[DOOR_VARIABLE] = "1"
    real = os.path.realpath(processes.bundle())
    if os.path.isfile(real) and real != processes.bundle():
        # through `current` what this starts later might be another runner
        _become(real, root, answers, os.environ.get(COMMAND_VARIABLE, ""))
    try:
        storage.prepare(root)
        asked = read(os.environ.get(COMMAND_VARIABLE, ""))
        if asked.action == "load":
            _load(root, asked, answers)
        if asked.action in ("load", "serve"):
            return server.serve(root, sys.stdin.buffer, answers)
        if asked.action == "send":
            transfer.send(root, asked.sha256, answers)
        else:
            transfer.receive(root, asked.sha256, asked.size, 0, lambda told: frames.write(answers, told))
    except BrokenPipeError:
        return 1
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        sys.stderr.write("edgeopt: %s\n" % refusal.sentences)
        frames.write(answers, server.failure(refusal))
        return 126
    return 0


def _load(root: str, asked: Asked, answers: BinaryIO) -> None:
    """Answer the loader: the runner that the host has, where it is signed here, else the one that this is."""
    here = processes.bundle()
    bundle = os.path.join(root, "runner", asked.sha256, BUNDLE)
    have = os.path.isfile(bundle) and links.sha256_of(bundle) == asked.sha256
    length = 0 if have else _signed_length(root, asked)
    wanted = length > 0
    facts = {"python": sys.executable, "version": list(sys.version_info[:3]), "root": root, "time": time.time()}
    frames.write(answers, dict(facts, have=not wanted, bundle=bundle if wanted else here))
    if wanted:
        _install(root, bundle, asked, length)
    frames.write(answers, {"ok": True})
    if wanted:
        _become(bundle, root, answers, "serve")


def _become(bundle: str, root: str, answers: BinaryIO, command: str) -> None:
    """Go on as the door of another bundle; does not return."""
    answers.flush()
    os.dup2(answers.fileno(), 1)
    environment = dict(os.environ, **{COMMAND_VARIABLE: command})
    os.execve(sys.executable, [sys.executable, "-I", bundle, "door", "--root", root], environment)


def _signed_length(root: str, asked: Asked) -> int:
    """The size of this runner in bytes, where the board's own trust names it; else 0."""
    trust = targets.verified(root)
    found = trust.find(RUNNER_TARGET) if trust is not None else None
    if not found or found["sha256"] != asked.sha256 or max(found["length"], asked.size) > LARGEST_RUNNER_BYTES:
        return 0
    return int(found["length"])


def _install(root: str, bundle: str, asked: Asked, length: int) -> None:
    """Take a runner from stdin, whole or not at all, and make it the one that the door starts.

    Raises:
        Refusal: ``truncated`` or ``digest_mismatch``.
    """
    data = bytearray()
    while len(data) < asked.size:
        block = os.read(0, min(1 << 20, asked.size - len(data)))
        if not block:
            raise Refusal(TRUNCATED, "%d of %d bytes of the runner came" % (len(data), asked.size), "Try again.")
        data += block
    runner = _unpacked(bytes(data), length)
    if hashlib.sha256(runner).hexdigest() != asked.sha256:
        raise Refusal(DIGEST_MISMATCH, "the runner arrived damaged", "Try again.")
    os.makedirs(os.path.dirname(bundle), exist_ok=True)
    storage.write_atomically(bundle, runner)
    links.point(os.path.join(root, "runner", "current"), asked.sha256)


def _unpacked(data: bytes, length: int) -> bytes:
    """The runner, which may have travelled compressed; no more of it than its signed size."""
    if data[:2] == b"#!":
        return data
    try:
        return zlib.decompressobj().decompress(data, length + 1)
    except zlib.error:
        return b""


def restrict(root: str, public_key: Any) -> Dict[str, Any]:
    """Let a key in by the door (verb ``restrict``): its line in `authorized_keys` is added, or replaced.

    Args:
        root: The runner's root.
        public_key: As `ssh-keygen` writes it: type, key, comment.

    Returns:
        ``path`` of the file, ``fingerprint`` of the key, and ``others``: how many other keys may log in there.

    Raises:
        Refusal: ``bad_request``: no public key; or the paths cannot stand in such a line.
    """
    words = public_key.split() if isinstance(public_key, str) and len(public_key) < 4096 else []
    if len(words) < 2 or not re.match(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+\Z", words[0]) or not _is_base64(words[1]):
        raise Refusal(BAD_REQUEST, "public_key is %.80r" % (public_key,), "Send the one line of a .pub file.")
    current = os.path.join(root, "runner", "current", BUNDLE)
    command = " ".join(shlex.quote(word) for word in (sys.executable, "-I", current, "door", "--root", root))
    if '"' in command or "\\" in command or not os.path.isfile(current):
        raise Refusal(BAD_REQUEST, "no forced command can be made for %.200r" % command, "Choose a plain root.")
    path = os.path.realpath(os.path.join(os.path.expanduser("~"), ".ssh", "authorized_keys"))
    line = 'restrict,command="%s" %s %s edgeopt' % (command, words[0], words[1])
    others = _others(path, words[1])
    _write(path, others + [line])
    live = [other for other in others if other.strip() and not other.lstrip().startswith("#")]
    digest = hashlib.sha256(_decoded(words[1]) or b"").hexdigest()
    return {"path": path, "fingerprint": digest, "others": len(live)}


def _decoded(text: str) -> Optional[bytes]:
    import base64
    import binascii

    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None


def _is_base64(text: str) -> bool:
    return bool(_decoded(text))


def _others(path: str, key: str) -> List[str]:
    """The lines of the file that are not of this key."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return [line for line in stream.read().splitlines() if key not in line.split()]
    except FileNotFoundError:
        return []


def _write(path: str, lines: List[str]) -> None:
    """Replace the file, for the login alone to read, as sshd wants it."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=folder, prefix=".edgeopt-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    storage.sync(folder)
