"""Builds the request of a run from `edgeopt.yaml` and the options given on top of it.

The keys of the file are the long option names, so that there is one set of words to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt import documents
from edgeopt.cli import quantities
from edgeopt.core.budget import Budget
from edgeopt.errors import DocumentError, UsageError
from edgeopt.graph.sample_options import parse_scale
from edgeopt.workflow.request import DataRequest, Request, SearchRequest

FILE_NAME = "edgeopt.yaml"
KEYS = (
    *(
        "model",
        "target",
        "data",
        "metric",
        "train",
        "loss",
        "training-samples",
        "input",
        "layout",
        "scale",
        "calibration",
        "evaluation",
        "overlap",
    ),
    *("max-drop", "max-latency", "max-memory", "max-size", "minimise", "random-data"),
    *(
        "app",
        "profile",
        "recipes",
        "recipe-file",
        "candidate",
        "search",
        "strategy",
        "trials",
        "search-time",
        "max-device-seconds",
        "study",
        "runtimes",
        "threads",
        "sessions",
        "inter-op",
        "effort",
        "launches",
        "activate",
        "one-for-all",
        "executor",
        "fresh",
        "seed",
    ),
)
"""What the file may say: the options of `edgeopt deploy`; other commands leave aside what is not theirs."""

_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(
        ("calibration", "evaluation", "training-samples", "trials", "launches", "seed"), (int, "a whole number")
    ),
    **dict.fromkeys(("overlap", "random-data", "activate", "one-for-all", "fresh"), (bool, "true or false")),
    "input": (list, "a list, as in: input: ['x=1,3,224,224']"),
    "max-device-seconds": ((int, float), "a number"),
    **dict.fromkeys(("recipes", "runtimes"), ((list, str), "a list of names")),
    "candidate": ((list, str), "a list of ONNX files"),
    **dict.fromkeys(("threads", "sessions", "inter-op"), ((int, str), "1,2,4")),
}
_AS_THEY_ARE = ("app", "profile", "effort", "launches", "seed", "activate", "executor", "fresh")
_OF_SEARCH = ("strategy", "trials", "search-time", "max-device-seconds", "study")
_OBJECTIVES = ("latency", "memory", "size", "time-per-item")


def build(options: Mapping[str, Any]) -> Request:
    """The request: options that are not ``None`` over the file's values over the defaults.

    Raises:
        UsageError: A value that cannot be used, or no model at all.
        DocumentError: The file has unknown keys or is not a mapping.
    """
    values = {**_file_values(options), **{key: value for key, value in options.items() if value not in (None, [])}}
    if not values.get("model"):
        raise UsageError(
            "no MODEL was given and there is no edgeopt.yaml here.",
            remedy="Say edgeopt deploy model.onnx --target local, or run edgeopt init model.onnx first.",
        )
    request = Request(
        model=str(values["model"]),
        target=str(values.get("target", "local")),
        data=_data(values),
        budget=budget(values),
        input_shapes=quantities.parse_shapes([str(text) for text in values.get("input", [])]),
        recipes=tuple(_words(values.get("recipes"))),
        recipe_file=str(values["recipe-file"]) if "recipe-file" in values else None,
        candidates=tuple(_words(values.get("candidate"))),
        search=_search(values),
        runtimes=tuple(_words(values.get("runtimes"))),
        one_for_all=bool(values.get("one-for-all", False)),
        **_counts(values),
        **{key: values[key] for key in _AS_THEY_ARE if key in values},
    )
    request.check()
    return request


def _file_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `edgeopt.yaml`, only where the command names no other model."""
    path = Path(FILE_NAME)
    if not path.exists():
        return {}
    values = documents.read_yaml(path) or {}
    if not isinstance(values, dict):
        raise DocumentError(f"{path} holds a {type(values).__name__}, not keys and values.", remedy="See edgeopt init.")
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise DocumentError(f"{path} has the unknown key {unknown[0]!r}.", remedy=f"Use {', '.join(KEYS)}.")
    if options.get("model") not in (None, values.get("model")):
        return {}
    given = {key: value for key, value in values.items() if value is not None}
    for key, value in given.items():
        _check_kind(path, key, value)
    return given


def _check_kind(path: Path, key: str, value: object) -> None:
    """YAML gives any type; options are text, whole numbers, switches and lists of text."""
    kind, name = _KINDS.get(key, ((str, int, float), "one word or number"))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DocumentError(f"{path}: {key} is {value!r}.", remedy=f"It takes {name}.")


def _counts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Threads and what else is counted, by their fields in the request."""
    given = [option for option in ("threads", "sessions", "inter-op") if option in values]
    return {name.replace("-", "_"): quantities.parse_counts(str(values[name]), f"--{name}") for name in given}


def _search(values: Mapping[str, Any]) -> SearchRequest | None:
    bounds = [option for option in _OF_SEARCH if option in values]
    if "search" not in values:
        if bounds:
            raise UsageError(
                f"--{bounds[0]} is given, and nothing to search.",
                remedy="Add --search architecture; see edgeopt spaces.",
            )
        return None
    given = {name: values[name] for name in ("strategy", "trials", "study") if name in values}
    if "search-time" in values:
        given["max_seconds"] = quantities.parse_duration(str(values["search-time"]), "--search-time")
    if "max-device-seconds" in values:
        given["max_device_seconds"] = float(values["max-device-seconds"])
    return SearchRequest(str(values["search"]), **given)


def _data(values: Mapping[str, Any]) -> DataRequest:
    named = {
        "calibration": "calibration_samples",
        "evaluation": "evaluation_samples",
        "training-samples": "training_samples",
    }
    counts = {field: int(values[option]) for option, field in named.items() if option in values}
    return DataRequest(
        source=values.get("data"),
        metric=values.get("metric"),
        layout=values.get("layout", "as_is"),
        scale=parse_scale(str(values["scale"])) if "scale" in values else None,
        overlap=bool(values.get("overlap", False)),
        random=bool(values.get("random-data", False)),
        training=values.get("train"),
        loss=values.get("loss"),
        **counts,
    )


def budget(values: Mapping[str, Any]) -> Budget:
    """The limits and the objective among the options.

    Raises:
        UsageError: A limit or an objective that cannot be used.
    """
    objective = values.get("minimise", "latency")
    if objective not in _OBJECTIVES:
        raise UsageError(f"--minimise {objective!r} is not known.", remedy=f"Use one of {', '.join(_OBJECTIVES)}.")
    limits: dict[str, Any] = {}
    if "max-drop" in values:
        limits["max_drop"] = quantities.parse_drop(str(values["max-drop"]))
    if "max-latency" in values:
        limits["max_latency"] = quantities.parse_latency(str(values["max-latency"]))
    if "max-memory" in values:
        limits["max_memory_bytes"] = quantities.parse_bytes(str(values["max-memory"]), "--max-memory")
    if "max-size" in values:
        limits["max_size_bytes"] = quantities.parse_bytes(str(values["max-size"]), "--max-size")
    return Budget(objective=objective, **limits)


def _words(value: object) -> list[str]:
    if value is None:
        return []
    words = value if isinstance(value, list) else str(value).split(",")
    return [str(word).strip() for word in words if str(word).strip()]
