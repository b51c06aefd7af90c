"""What a power cut may leave on a disk: a folder whose calls are replayed, in all orders that a file system may keep.

A file's bytes are on the disk when the file was synced, a folder's names when the folder was, and nothing is there
before: the bytes of a new name may be missing, names that were changed together come back in any order, and only a
rename is all or nothing. ext4 keeps more than that; what survives here survives there. After T. S. Pillai et al., All
file systems are not created equal: on the complexity of crafting crash-consistent applications, OSDI 2014.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from support.system_calls import Call

Bytes = Callable[["Node"], bytes]
"""Which bytes of a file are on the disk."""


class Node:
    """A file, symbolic link or folder; `kept...` is what was synced of it.

    Attributes:
        data, kept: Bytes of a file; of a link (always kept) where it leads to.
        names, kept_names: What is in a folder.
        changes: Names of a folder that each change since its last sync took part in.
    """

    def __init__(self, kind: str, data: bytes = b"") -> None:
        self.kind = kind
        self.data = self.kept = data
        self.names: dict[str, Node] = {}
        self.kept_names: dict[str, Node] = {}
        self.changes: list[set[str]] = []

    def change(self, *names: str) -> None:
        """Note that these names belong together from here on."""
        joined = {*names}.union(*(group for group in self.changes if group & {*names}))
        self.changes = [group for group in self.changes if not group & joined] + [joined]


class Cut(NamedTuple):
    """One way in which a disk may be left.

    Attributes:
        names: Of each folder what is in it.
        data: Which bytes of each file are there.
        what: In words.
    """

    names: Callable[[Node], dict[str, Node]]
    data: Bytes
    what: str


def read(folder: Path) -> Node:
    """A folder as it is, all of it on the disk."""
    inodes: dict[int, Node] = {}
    return _read(folder, inodes)


def _read(path: Path, inodes: dict[int, Node]) -> Node:
    facts = path.lstat()
    if path.is_symlink():
        return Node("link", os.readlink(path).encode())
    if not path.is_dir():
        return inodes.setdefault(facts.st_ino, Node("file", path.read_bytes()))
    node = Node("folder")
    node.names = {child.name: _read(child, inodes) for child in path.iterdir()}
    node.kept_names = dict(node.names)
    return node


def replay(top: Node, call: Call) -> None:
    """Do one recorded call."""
    folder, name = _parent(top, call.path)
    node = folder.names.get(name) if name else top
    if call.deed == "open":
        if node is None:
            assert "O_CREAT" in call.other, call
            _put(folder, name, Node("file"))
        elif "O_TRUNC" in call.other:
            node.data = b""
    elif call.deed in ("mkdir", "symlink"):
        _put(folder, name, Node("folder") if call.deed == "mkdir" else Node("link", call.other.encode()))
    elif call.deed in ("rename", "link"):
        _give_name(top, folder, name, call)
    elif call.deed == "remove":
        del folder.names[name]
        folder.change(name)
    elif node is not None:  # else: a file that has no name any more
        _work_on(node, call)


def _work_on(node: Node, call: Call) -> None:
    if call.deed == "write":
        before = node.data[: call.number].ljust(call.number, b"\0")
        node.data = before + call.data + node.data[call.number + len(call.data) :]
    elif call.deed == "truncate":
        node.data = node.data[: call.number].ljust(call.number, b"\0")
    elif call.deed == "sync":
        node.kept, node.kept_names, node.changes = node.data, dict(node.names), []


def _put(folder: Node, name: str, node: Node) -> None:
    node.kept = node.data if node.kind == "link" else b""
    folder.names[name] = node
    folder.change(name)


def _give_name(top: Node, folder: Node, name: str, call: Call) -> None:
    target, new = _parent(top, call.other)
    node = folder.names[name]
    target.names[new] = node
    if call.deed == "rename":
        assert target is folder, f"{call} goes from folder to folder, which may happen by halves"
        del folder.names[name]
        folder.change(name, new)
    else:
        target.change(new)


def _parent(top: Node, path: str) -> tuple[Node, str]:
    *folders, name = path.split("/")
    for part in folders:
        top = top.names[part]
    return top, name


def cuts(top: Node) -> Iterator[Cut]:
    """The ways in which the disk may be left if the power goes now."""
    pending = [(node, group) for node in _folders(top) for group in node.changes]
    whole = Cut(lambda node: node.names, lambda node: node.data, "all names")
    bare = Cut(lambda node: node.kept_names, lambda node: node.data, "no name")
    some = [_cut(chosen, f"of the names only {group}") for chosen, group in _single(pending)]
    some += [
        _cut([one for one in pending if one not in chosen], f"all names but {g}") for chosen, g in _single(pending)
    ]
    for cut in (whole, bare, *some):
        yield cut
        yield cut._replace(data=lambda node: node.kept, what=cut.what + ", no byte")
    for cut in (whole, bare):
        yield cut._replace(data=_zeros, what=cut.what + ", zeros for bytes")
        yield cut._replace(data=_torn, what=cut.what + ", half of the bytes")


def _single(pending: list[tuple[Node, set[str]]]) -> Iterator[tuple[list[tuple[Node, set[str]]], set[str]]]:
    for node, group in pending if len(pending) > 1 else []:
        yield [(node, group)], group


def _cut(chosen: list[tuple[Node, set[str]]], what: str) -> Cut:
    def names(node: Node) -> dict[str, Node]:
        new: set[str] = set().union(*(group for owner, group in chosen if owner is node))
        kept = {name: child for name, child in node.kept_names.items() if name not in new}
        return kept | {name: node.names[name] for name in new if name in node.names}

    return Cut(names, lambda node: node.data, what)


def _common(node: Node) -> int:
    if node.data.startswith(node.kept):
        return len(node.kept)
    pairs = enumerate(zip(node.kept, node.data, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(node.kept), len(node.data)))


def _zeros(node: Node) -> bytes:
    return node.data if node.kept is node.data else node.data[: _common(node)].ljust(len(node.data), b"\0")


def _torn(node: Node) -> bytes:
    return node.data if node.kept is node.data else node.data[: (_common(node) + len(node.data)) // 2]


def _folders(top: Node) -> Iterable[Node]:
    """All folders that are or were there, each once."""
    found = {id(top): top}
    waiting = [top]
    while waiting:
        node = waiting.pop()
        for child in (*node.names.values(), *node.kept_names.values()):
            if child.kind == "folder" and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return found.values()


def fingerprint(node: Node, cut: Cut, without: frozenset[str] = frozenset()) -> bytes:
    """What a cut leaves, in a few bytes: equal where it is the same, but for what bears one of the names `without`."""
    if node.kind != "folder":
        return _digest(cut.data(node) if node.kind == "file" else b"link " + node.data)
    digest = hashlib.sha256(b"folder")
    for name, child in sorted(cut.names(node).items()):
        if name not in without:
            digest.update(name.encode() + b"\0" + fingerprint(child, cut, without))
    return digest.digest()


@functools.lru_cache(maxsize=4096)
def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def write(node: Node, cut: Cut, path: Path, seen: dict[int, Path] | None = None) -> None:
    """Make what a cut leaves a real folder."""
    seen = {} if seen is None else seen
    if node.kind == "link":
        path.symlink_to(node.data.decode())
    elif node.kind == "folder":
        path.mkdir()
        for name, child in cut.names(node).items():
            write(child, cut, path / name, seen)
    elif id(node) in seen:
        path.hardlink_to(seen[id(node)])
    else:
        path.write_bytes(cut.data(node))
        seen[id(node)] = path
