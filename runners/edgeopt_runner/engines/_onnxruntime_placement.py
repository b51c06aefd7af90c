"""Which of ONNX Runtime's providers took which nodes.

From 1.24 on a session tells, when it was asked to note it while loading, which costs nothing later. Before that only
the profiler does: in a second session, made when everything is measured, and only where the board has room for it.
"""

import json
import os
import tempfile
from typing import Any, Dict, List, Tuple

from edgeopt_runner import memory

RECORDING = {"session.record_ep_graph_assignment_info": "1"}
"""Older versions do not know this entry and pass over it."""

_ROOM = 4
_ONLY_ERRORS = 3

Shapes = Dict[str, Tuple[Tuple[int, ...], Any]]
"""Shape and dtype of each input of the last run."""


def assigned(session: Any) -> Dict[str, int]:
    """Nodes by provider, as the session noted them; empty where its version does not."""
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except Exception:  # no such method before 1.24; later its error where nothing was noted
        return {}
    found: Dict[str, int] = {}
    for subgraph in subgraphs:
        provider = str(subgraph.ep_name)
        found[provider] = found.get(provider, 0) + len(subgraph.get_nodes())
    return found


class Again:
    """What a second session of the same model needs."""

    def __init__(self, path: str, providers: List[str]) -> None:
        self.path = path
        self.providers = providers

    def placement(self, shapes: Shapes) -> Dict[str, int]:
        """Nodes by provider in one profiled run on zeros; empty where the board lacks the memory or it fails."""
        available = memory.available_bytes()
        if not shapes or available is None or available < _ROOM * os.path.getsize(self.path):
            return {}
        try:
            with tempfile.TemporaryDirectory() as folder:
                return _count(self._profile(folder, shapes))
        except Exception:  # it is told beside the measurement, which it must not spoil
            return {}

    def _profile(self, folder: str, shapes: Shapes) -> List[Dict[str, Any]]:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = _ONLY_ERRORS
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = onnxruntime.InferenceSession(self.path, options, providers=self.providers)
        session.run(None, {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()})
        with open(session.end_profiling()) as stream:
            events: List[Dict[str, Any]] = json.load(stream)
        return events


def _count(events: List[Dict[str, Any]]) -> Dict[str, int]:
    """Different nodes by provider."""
    nodes = set()
    for event in events:
        provider = (event.get("args") or {}).get("provider")
        if event.get("cat") == "Node" and provider:
            nodes.add((str(provider), str(event.get("name"))))
    found: Dict[str, int] = {}
    for provider, _ in nodes:
        found[provider] = found.get(provider, 0) + 1
    return found
