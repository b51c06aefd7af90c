"""The only reader of YAML, and the one place where JSON and YAML become nouns and back (pydantic checks them)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from edgeopt.errors import DocumentError

T = TypeVar("T")


_ADAPTERS: dict[Any, Any] = {}


def _adapter(kind: Any) -> Any:
    """The checker of a type, built once: building one takes milliseconds."""
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def decode(kind: type[T], value: Any, *, where: str, remedy: str = "") -> T:
    """Check plain data against a noun and build it.

    Args:
        kind: A dataclass of `edgeopt.core` or a pydantic model.
        value: What a parser returned.
        where: File or source, for the message.
        remedy: What to do about it, where that is known.

    Raises:
        DocumentError: The data does not fit; names the first place and value.
    """
    from pydantic import ValidationError

    try:
        built: T = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise _problem(error, where, remedy) from None
    return built


def decode_json(kind: type[T], text: str | bytes, *, where: str) -> T:
    """The same for JSON text."""
    from pydantic import ValidationError

    try:
        built: T = _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise _problem(error, where) from None
    return built


def _problem(error: Any, where: str, remedy: str = "") -> DocumentError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return DocumentError(f"{where}: {place} is {str(first['input'])[:80]!r}: {first['msg']}{more}.", remedy=remedy)


def encode_json(value: Any) -> str:
    """JSON text of a noun, keys in the order of its fields."""
    text: str = _adapter(type(value)).dump_json(value).decode()
    return text


def plain(value: Any) -> Any:
    """A noun as plain dictionaries, lists, strings and numbers."""
    return _adapter(type(value)).dump_python(value, mode="json")


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        DocumentError: It cannot be read or is not YAML; names line and column.
    """
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}.", remedy="Check its permissions.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(
            f"{path} is not valid YAML: {' '.join(str(error).split()).rstrip('.')}.", remedy="Correct it at that place."
        ) from None


def yaml_lines(path: Path) -> dict[tuple[str | int, ...], int]:
    """Line (from 1) of every place in a YAML file that `read_yaml` could read; the key is the way there, () the top."""
    import yaml

    lines: dict[tuple[str | int, ...], int] = {}

    def walk(node: Any, place: tuple[str | int, ...]) -> None:
        lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                there = (*place, str(key.value))
                walk(value, there)
                lines[there] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, (*place, index))

    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    if root is not None:
        walk(root, ())
    return lines


def yaml_text(value: Any, *, compact: bool = False) -> str:
    """Plain data as YAML; `compact`: what is innermost stands on one line."""
    import yaml

    style = None if compact else False
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=style, width=120)
    return text


def write_yaml(path: Path, value: Any) -> None:
    """Write plain data as YAML, atomically."""
    import yaml

    write_atomically(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old or the new bytes, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
