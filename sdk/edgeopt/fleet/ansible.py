"""Ansible's inventories as a fleet: INI and YAML files, and the JSON of ``ansible-inventory --list``. Text in, no code.

Groups become labels of their boards; ``ansible_*`` variables say how to reach them; ``edgeopt_profile``, ``_site``,
``_window``, ``_zone`` and ``_root`` what only we know. Variables are taken as Ansible takes them: those of ``all``, of
parents, of children, of the host, each over the one before. What needs Ansible to work out (dynamic inventories,
templates, vaults) is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeopt.core.fleet import Fleet
from edgeopt.errors import DocumentError
from edgeopt.fleet.inventory import decode_fleet

_DYNAMIC = "Have Ansible work it out, and import that: ansible-inventory --list --export > inventory.json"
_RANGE = re.compile(r"\[([0-9]+|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
_HEADER = re.compile(r"\[([^\[\]:]+)(?::(children|vars))?\]")
_JUMP = re.compile(r"(?:-J\s*|ProxyJump[= ]\s*)[\"']?([^\s\"']+)")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_HOSTS = 100_000
_OWN = ("profile", "site", "window", "zone", "root")
_VARIABLES = {
    "ansible_host": "host", "ansible_ssh_host": "host", "ansible_user": "user", "ansible_ssh_user": "user",
    "ansible_ssh_private_key_file": "key", "ansible_private_key_file": "key",
    "ansible_python_interpreter": "python", **{f"edgeopt_{name}": name for name in _OWN},
}  # fmt: skip
Variables = dict[str, Any]


@dataclass
class _Group:
    hosts: dict[str, Variables] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    variables: Variables = field(default_factory=dict)


_Groups = dict[str, _Group]


def decode_ini(text: str, *, where: str) -> Fleet:
    """The boards of an INI inventory.

    Raises:
        DocumentError: It does not parse, has no host, or needs Ansible to be worked out.
    """
    if text.startswith("#!"):
        raise DocumentError(f"{where} is a program, a dynamic inventory; it is not run.", remedy=_DYNAMIC)
    groups: _Groups = {}
    name, kind = "ungrouped", ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise _wrong(where, number, f"{line.strip()[:60]!r}: {error}") from None
        if not words:
            continue
        header = _HEADER.fullmatch(line.split("#")[0].strip())
        if header:
            name, kind = header[1].strip(), header[2] or ""
            groups.setdefault(name, _Group())
        elif line.lstrip().startswith("[") and "]" in line and len(words) == 1:
            raise _wrong(where, number, f"{line.strip()[:60]!r} is no section")
        else:
            _ini_line(groups.setdefault(name, _Group()), kind, line, words, where, number)
    return _fleet(groups, where)


def _ini_line(group: _Group, kind: str, line: str, words: list[str], where: str, number: int) -> None:
    if kind == "children":
        group.children.append(words[0])
        return
    if kind == "vars":
        key, sign, value = line.partition("=")
        if not sign:
            raise _wrong(where, number, f"{line.strip()[:60]!r} is no variable")
        group.variables[key.strip()] = value.strip().strip("\"'")
        return
    pairs = [word.partition("=") for word in words[1:]]
    if not all(sign for _, sign, _ in pairs):
        raise _wrong(where, number, f"{line.strip()[:60]!r}: after the host come variables, like ansible_user=pi")
    for host in _expanded(words[0], where, number):
        _host(group, host, {key: value for key, _, value in pairs}, where)


def _host(group: _Group, host: str, variables: Variables, where: str) -> None:
    group.hosts.setdefault(host, {}).update(variables)
    if len(group.hosts) > _MOST_HOSTS:
        raise DocumentError(f"{where} has a group of more than {_MOST_HOSTS} hosts.", remedy="Split it.")


def decode_tree(document: Any, *, where: str) -> Fleet:
    """The boards of a YAML inventory, or of the JSON of ``ansible-inventory --list``.

    Args:
        document: What the parser made of it.
        where: The file, for messages.

    Raises:
        DocumentError: It does not fit, has no host, or needs Ansible to be worked out.
    """
    if not isinstance(document, dict):
        raise DocumentError(f"{where} is no inventory of Ansible's.", remedy="Give an INI, YAML or JSON inventory.")
    if "plugin" in document:
        raise DocumentError(f"{where} is for the inventory plugin {document['plugin']!r}.", remedy=_DYNAMIC)
    groups: _Groups = {}
    if "_meta" in document:
        for name, value in document.items():
            _from_list(groups, str(name), value, document["_meta"], where)
    else:
        for name, value in document.items():
            _from_yaml(groups, str(name), value, where, 0)
    return _fleet(groups, where)


def _from_list(groups: _Groups, name: str, value: Any, meta: Any, where: str) -> None:
    """A group of the JSON: names of hosts and children, variables apart."""
    if name == "_meta":
        return
    entry = _object(value, name, where)
    known = _object(_object(meta, "_meta", where).get("hostvars"), "hostvars", where)
    group = groups.setdefault(name, _Group())
    group.children += [str(child) for child in entry.get("children") or []]
    group.variables.update(_object(entry.get("vars"), f"{name}.vars", where))
    for host in entry.get("hosts") or []:
        group.hosts[str(host)] = _object(known.get(host), f"hostvars.{host}", where)


def _from_yaml(groups: _Groups, name: str, value: Any, where: str, depth: int) -> None:
    """A group of the YAML, with its hosts and the groups inside it."""
    if depth > 32:
        raise DocumentError(f"{where}: groups are nested more than 32 deep at {name}.", remedy="Flatten them.")
    entry = _object(value, name, where)
    unknown = sorted(set(map(str, entry)) - {"hosts", "children", "vars"})
    if unknown:
        raise DocumentError(f"{where}: {name}.{unknown[0]} is no part of a group.", remedy="hosts, children or vars.")
    group = groups.setdefault(name, _Group())
    group.variables.update(_object(entry.get("vars"), f"{name}.vars", where))
    for pattern, variables in _object(entry.get("hosts"), f"{name}.hosts", where).items():
        for host in _expanded(str(pattern), where, 0):
            _host(group, host, _object(variables, host, where), where)
    for child, inner in _object(entry.get("children"), f"{name}.children", where).items():
        group.children.append(str(child))
        _from_yaml(groups, str(child), inner, where, depth + 1)


def _object(value: Any, what: str, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(
            f"{where}: {what} is {str(value)[:60]!r}, not names with values.", remedy="Correct it there."
        )
    return value


def _expanded(pattern: str, where: str, number: int) -> Iterator[str]:
    """The hosts of ``web[01:10].example``, both ends included; one where there is no range."""
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise _wrong(where, number, f"{pattern[:60]!r} is no host and no range", "Ranges look like web[01:10].")
        yield pattern
        return
    for middle in _between(found, where, number):
        for rest in _expanded(pattern[found.end() :], where, number) if found.end() < len(pattern) else ("",):
            yield pattern[: found.start()] + middle + rest


def _between(found: re.Match[str], where: str, number: int) -> Iterator[str]:
    first, last, step = found[1], found[2], int(found[3] or 1)
    numbers = first.isdigit() and last.isdigit()
    begin, end = (int(first), int(last)) if numbers else (ord(first[0]), ord(last[0]))
    if first.isdigit() != last.isdigit() or end < begin or step < 1 or (end - begin) // step >= _MOST_HOSTS:
        raise _wrong(where, number, f"{found[0]} is no range", "Ranges rise, like [01:10] or [a:f].")
    for value in range(begin, end + 1, step):
        yield str(value).zfill(len(first)) if numbers else chr(value)


def _fleet(groups: _Groups, where: str) -> Fleet:
    """The boards that groups speak of, in their order."""
    parents = _parents(groups, where)
    boards: dict[str, dict[str, Any]] = {}
    for name, group in groups.items():
        for host in group.hosts:
            boards.setdefault(host, {})
            if len(boards) > _MOST_HOSTS:
                raise DocumentError(f"{where} has more than {_MOST_HOSTS} hosts.", remedy="Split it.")
            boards[host].setdefault("of", []).append(name)
    if not boards:
        raise DocumentError(f"{where} has no host.", remedy="Is it an inventory of Ansible's?")
    document = {host: _entry(host, entry["of"], groups, parents, where) for host, entry in boards.items()}
    return decode_fleet({"boards": document}, where=where)


def _parents(groups: _Groups, where: str) -> dict[str, list[str]]:
    """The groups around each, with itself last: the nearer, the later."""
    above: dict[str, list[str]] = {}
    for name, group in groups.items():
        for child in group.children:
            above.setdefault(child, []).append(name)

    def walk(name: str, seen: tuple[str, ...]) -> list[str]:
        if name in seen:
            raise DocumentError(f"{where}: the group {name} is inside itself.", remedy="Take it out of its children.")
        around = [far for parent in sorted(above.get(name, [])) for far in walk(parent, (*seen, name))]
        return list(dict.fromkeys([*around, name]))

    return {name: walk(name, ()) for name in {*groups, *above}}


def _entry(host: str, of: list[str], groups: _Groups, parents: Mapping[str, list[str]], where: str) -> dict[str, Any]:
    """A board as `fleet.yaml` would say it."""
    around = [name for group in of for name in parents[group]]
    depth = {name: len(parents[name]) for name in around}
    order = ["all", *sorted(dict.fromkeys(around), key=lambda name: (depth[name], name))]
    variables: Variables = {}
    for name in order:
        variables.update(groups[name].variables if name in groups else {})
    for name in order:
        variables.update(groups[name].hosts.get(host, {}) if name in groups else {})
    labels = {name: "yes" for name in order if name not in ("all", "ungrouped") and _LABEL.fullmatch(name)}
    return {"host": host, **_fields(host, variables, where), "labels": labels}


def _fields(host: str, variables: Variables, where: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        ours: _plain(host, name, variables[name], where) for name, ours in _VARIABLES.items() if name in variables
    }
    for name in ("ansible_port", "ansible_ssh_port"):
        if name in variables:
            text = _plain(host, name, variables[name], where)
            entry["port"] = int(text) if text.isdigit() else text
    options = " ".join(
        _plain(host, name, variables[name], where)
        for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args")
        if name in variables
    )
    jump = _JUMP.search(options)
    if jump:
        entry["jump"] = jump[1]
    elif "ProxyCommand" in options:
        said = f"{where}: {host} is reached through a ProxyCommand."
        raise DocumentError(said, remedy="Write it as ProxyJump (-J), or put it into ~/.ssh/config.")
    if str(variables.get("ansible_connection", "ssh")) not in ("ssh", "smart", "paramiko", "paramiko_ssh"):
        said = f"{where}: {host} is reached by {variables['ansible_connection']!r}, not by SSH."
        raise DocumentError(said, remedy="Take it out, or give it an address.")
    return entry


def _plain(host: str, name: str, value: Any, where: str) -> str:
    text = str(value)
    if "{{" in text or "{%" in text or text.startswith("$ANSIBLE_VAULT"):
        raise DocumentError(f"{where}: {name} of {host} is a template or a secret of Ansible's.", remedy=_DYNAMIC)
    return text


def _wrong(where: str, number: int, message: str, remedy: str = "Correct it there.") -> DocumentError:
    return DocumentError(f"{where}{f':{number}' if number else ''}: {message}.", remedy=remedy)
