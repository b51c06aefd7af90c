"""edgeopt: compress a trained network for a board, measure it there, choose, and keep the winner active.

    import edgeopt

    with edgeopt.Workspace.open() as workspace:
        record = edgeopt.deploy(edgeopt.Request(model="model.onnx", target="local"), workspace)

The public names are loaded when they are first used, so that importing this package loads no heavy library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeopt.core.budget import Budget as Budget
    from edgeopt.core.budget import LatencyLimit as LatencyLimit
    from edgeopt.core.release import Release as Release
    from edgeopt.core.rollout import Rollout as Rollout
    from edgeopt.core.run import RunRecord as RunRecord
    from edgeopt.errors import EdgeoptError as EdgeoptError
    from edgeopt.selection.select import select as select
    from edgeopt.workflow import benching, optimizing
    from edgeopt.workflow.benching import plan_named as plan_named
    from edgeopt.workflow.deciding import reselect as reselect
    from edgeopt.workflow.deploying import deploy as deploy
    from edgeopt.workflow.fleet.composing import ReleaseRequest as ReleaseRequest
    from edgeopt.workflow.fleet.publishing import publish as publish
    from edgeopt.workflow.kinds.deploying import deploy_kinds as deploy_kinds
    from edgeopt.workflow.request import DataRequest as DataRequest
    from edgeopt.workflow.request import Request as Request
    from edgeopt.workflow.workspace import Workspace as Workspace

    measure, optimize = benching.bench, optimizing.optimize_into

_PUBLIC = {
    "Budget": "core.budget:Budget",
    "DataRequest": "workflow.request:DataRequest",
    "EdgeoptError": "errors:EdgeoptError",
    "LatencyLimit": "core.budget:LatencyLimit",
    "Release": "core.release:Release",
    "ReleaseRequest": "workflow.fleet.composing:ReleaseRequest",
    "Request": "workflow.request:Request",
    "Rollout": "core.rollout:Rollout",
    "RunRecord": "core.run:RunRecord",
    "Workspace": "workflow.workspace:Workspace",
    "deploy": "workflow.deploying:deploy",
    "deploy_kinds": "workflow.kinds.deploying:deploy_kinds",
    "measure": "workflow.benching:bench",
    "optimize": "workflow.optimizing:optimize_into",
    "plan_named": "workflow.benching:plan_named",
    "publish": "workflow.fleet.publishing:publish",
    "reselect": "workflow.deciding:reselect",
    "select": "selection.select:select",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded now (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgeopt' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(f"edgeopt.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
