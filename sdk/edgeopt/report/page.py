"""What every HTML page of ours shares: the environment of its templates, its scripts and the policy that names them.

Every value passes `visible` and Jinja's autoescape; a page's own scripts and styles are named by hash in its content
security policy, so that even an escape that failed could not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from edgeopt.report import quantities
from edgeopt.report.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> Environment:
    """The environment of the templates; `q` there is `edgeopt.report.quantities`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("edgeopt.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    made.globals["q"] = quantities
    return made


@cache
def resource(folder: str, name: str) -> str:
    """A text file of this package."""
    return resources.files("edgeopt.report").joinpath(folder, name).read_text(encoding="utf-8")


def style(*more: str) -> str:
    """The house's style for pages with drawings, and what `more` templates add to it."""
    return "".join(resource("templates", name) for name in ("picture.css", "report.css", *more))


def palette() -> dict[str, str]:
    """Colours of the light page by name, for what is drawn where no style sheet is read."""
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", resource("templates", "report.css").partition("}")[0]))


def trusted(text: str) -> Any:
    """Our own text, which the template must not escape."""
    from markupsafe import Markup

    return Markup(text)


def policy(scripts: list[str], style: str, *more: str) -> str:
    """The content security policy: our scripts and our style by hash, and `more`; nothing else, from nowhere."""
    allowed = " ".join(_hash(script) for script in scripts)
    sources = ("default-src 'none'", f"script-src {allowed}", f"style-src {_hash(style)}", *more)
    return "; ".join((*sources, "base-uri 'none'", "form-action 'none'"))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
