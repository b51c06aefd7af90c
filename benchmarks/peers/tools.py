"""Other tools, each in an environment of its own that is made on first use: a child process with a deadline."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import time
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from timing import plain

HERE = Path(__file__).parent
FOLDER = HERE / "weights"
INSTALL_SECONDS, DEADLINE_SECONDS = 1200.0, 900.0

_QUIET = {"OLIVE_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Tool:
    """A peer as the table names it.

    Attributes:
        name: Of the row.
        environment: Name of its environment.
        needs: What pip installs there.
        runtime: Where its file runs.
        words: Of the command after the environment's ``bin``; {source}, {samples} and {folder} are filled in.
        makes: Pattern of the file that it leaves in its folder.
    """

    name: str
    environment: str
    needs: tuple[str, ...]
    runtime: str
    words: tuple[str, ...]
    makes: str


_NNCF = ("nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2", "onnxruntime==1.32.0", "numpy==1.26.4", "sympy")
_OLIVE = ("olive-ai==0.13.0", "torch==2.13.0", "requests", "onnxruntime==1.32.0", "onnx==1.23.2")
_NNCF_SCRIPT = ("python", str(HERE / "in_nncf.py"))
_FILES = ("{source}", "{samples}", "{folder}")

TOOLS = (
    Tool(
        *("ONNX Runtime's static quantiser", "nncf", _NNCF, "onnxruntime"),
        (*_NNCF_SCRIPT, "ort-static", *_FILES),
        "model.onnx",
    ),
    Tool(
        *("ONNX Runtime's dynamic quantiser", "nncf", _NNCF, "onnxruntime"),
        (*_NNCF_SCRIPT, "ort-dynamic", *_FILES),
        "model.onnx",
    ),
    Tool(
        *("Olive auto-opt to int8", "olive", _OLIVE, "onnxruntime"),
        (
            *("olive", "auto-opt", "--model_name_or_path", "{source}", "--output_path", "{folder}", "--device", "cpu"),
            *("--provider", "CPUExecutionProvider", "--precision", "int8"),
        ),
        "**/*.onnx",
    ),
    Tool("NNCF with OpenVINO", "nncf", _NNCF, "openvino", (*_NNCF_SCRIPT, "plain", *_FILES), "model.xml"),
    Tool(
        *("NNCF with accuracy control", "nncf", _NNCF, "openvino"),
        (*_NNCF_SCRIPT, "accuracy-control", *_FILES),
        "model.xml",
    ),
)


@dataclass(frozen=True)
class Made:
    """What a tool made of a network.

    Attributes:
        file: Path of its model; empty where there is none.
        seconds: Wall time that it took.
        problem: Why there is none.
    """

    file: str
    seconds: float
    problem: str = ""


def make(tool: Tool, source: Path, samples: Path, place: Path) -> Made:
    """What a tool made of a network, made now unless it is kept. Whether there is a model counts, not the exit code.

    Args:
        tool: Which.
        source: ONNX file with fixed sizes.
        samples: ``.npz`` with the samples to calibrate on.
        place: Folder of the network, for a folder of the tool's own.
    """
    folder = place / f"{plain(tool.name)}-{_key(tool, source, samples)}"
    kept = folder / "made.json"
    if kept.exists():
        return Made(**json.loads(kept.read_text()))
    print(f"    {tool.name}", flush=True)
    try:
        programs = _environment(tool)
    except (subprocess.SubprocessError, OSError) as error:
        return Made("", 0.0, f"does not install: {_last(error)}")
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was cut off left is no model
    folder.mkdir(parents=True)
    words = [word.format(source=source, samples=samples, folder=folder) for word in tool.words]
    began = time.monotonic()
    try:
        _child([str(programs / words[0]), *words[1:]], DEADLINE_SECONDS, **_QUIET)
        problem = ""
    except subprocess.TimeoutExpired as error:
        return Made("", time.monotonic() - began, _last(error))
    except (subprocess.SubprocessError, OSError) as error:
        problem = _last(error)
    files = (path for path in folder.glob(tool.makes) if path.stat().st_size)
    file = str(max(files, key=lambda path: path.stat().st_mtime_ns, default=""))
    made = Made(file, time.monotonic() - began, "" if file else problem or "ended well and made no model")
    kept.write_text(json.dumps(asdict(made)))
    return made


def _key(tool: Tool, source: Path, samples: Path) -> str:
    """Of everything that decides what the tool makes: versions, command, our script, network, samples."""
    digest = hashlib.sha256(" ".join((*tool.needs, *tool.words)).encode())
    for path in (source, samples, HERE / "in_nncf.py"):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _environment(tool: Tool) -> Path:
    """Where the environment's programs are."""
    folder = FOLDER / "environments" / tool.environment
    done, needs = folder / "complete", " ".join(tool.needs)
    if not (done.exists() and done.read_text() == needs):
        print(f"    installing {needs}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        words = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *tool.needs]
        _child(words, INSTALL_SECONDS, HOME=pwd.getpwuid(os.getuid()).pw_dir)  # the user's settings of pip
        done.write_text(needs)
    return folder / "bin"


def _child(words: Sequence[str], seconds: float, **environment: str) -> None:
    subprocess.run(
        words, capture_output=True, text=True, timeout=seconds, check=True, env={**os.environ, **environment}
    )


def _last(error: Exception) -> str:
    """The last line of what a child said."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {error.timeout:.0f} s"
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return ((said or str(error)).strip().splitlines() or [""])[-1][:160]
