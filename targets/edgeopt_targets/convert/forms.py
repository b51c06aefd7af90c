"""Forms of one network that a converter may be given: where it fails at one, another often works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeopt.errors import ChildError, EdgeoptError, ModelError, PassError
from edgeopt.passes._base import PassContext

Result = TypeVar("Result")


@dataclass(frozen=True)
class Form:
    """A way to give the network to a converter.

    Attributes:
        label: For messages: ``as it is``.
        path: Makes the file, or names it.
    """

    label: str
    path: Callable[[], Path]


def onnx_forms(source: Path, context: PassContext) -> Iterator[Form]:
    """As the file is; then written anew by torch's older exporter, whose operators every converter has seen."""
    yield Form("as it is", lambda: source)
    yield Form("written anew by torch", lambda: _anew(source, context.work / "anew.onnx"))


def torch_forms(source: Path, context: PassContext) -> Iterator[Form]:
    """As the file is; then simplified, for converters that read it as a torch network (`import_onnx`)."""
    yield Form("as it is", lambda: source)
    yield Form("simplified", lambda: _simplified(source, context))


def _simplified(source: Path, context: PassContext) -> Path:
    from edgeopt.passes.simplify import Options, Simplify

    path = context.work / "simplified.onnx"
    Simplify(Options()).apply(source, path, context)
    return path


def _anew(source: Path, destination: Path) -> Path:
    try:
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
    except ImportError:
        raise ModelError("torch is not installed.", remedy="pip install 'edgeopt[torch]'.") from None
    export_onnx(import_onnx(source), like=source, destination=destination)
    return destination


def first_converted(
    tool: str, forms: Iterable[Form], convert: Callable[[Path], Result]
) -> tuple[Result, tuple[str, ...]]:
    """What the first form gives that the tool converts, with a note on those that it did not.

    Args:
        tool: Name of the converter, for messages.
        forms: In the order in which they are tried.
        convert: Raises `PassError`, `ModelError` or `ChildError` where it cannot.

    Raises:
        PassError: No form could be converted; says why of each.
    """
    failures: list[str] = []
    for form in forms:
        try:
            result = convert(form.path())
        except (PassError, ModelError, ChildError) as error:
            failures.append(f"{form.label}: {_reason(error)}")
            continue
        notes = (f"{tool} took the network {form.label} ({'; '.join(failures)})",) if failures else ()
        return result, notes
    raise PassError(
        f"{tool} cannot convert this network ({'; '.join(failures)}).",
        remedy="Another runtime may take it; the recipes for ONNX files do.",
    )


def _reason(error: EdgeoptError) -> str:
    return error.message.rstrip(".")
