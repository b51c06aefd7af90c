"""The addresses of the local page: what each shows, and what is said where it cannot be shown."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from edgeopt.errors import EdgeoptError, StoreError
from edgeopt.report.fleet_page import render_rollout
from edgeopt.report.html import render_report
from edgeopt.report.kinds_page import render_kinds
from edgeopt.report.local_page import render_devices, render_fleet, render_problem, render_run, render_runs
from edgeopt.workflow.deciding import find_group
from edgeopt.workflow.fleet.auditing import log_of
from edgeopt.workflow.ui.contents import Contents

View = Callable[[Request], str]


def application(contents: Contents) -> Starlette:
    """The pages, to be guarded by `edgeopt.workflow.ui.access.Guard`.

    ``?part=1`` asks for the part of a page that changes, without its frame.

    Args:
        contents: What is shown.
    """

    def runs(request: Request) -> str:
        found, more = contents.runs()
        return render_runs(found, more=more, part=_part(request))

    def run(request: Request) -> str:
        return render_run(*contents.run(_name(request)), part=_part(request))

    def report(request: Request) -> str:
        name = _name(request)
        group = find_group(name, contents.workspace)
        return render_kinds(group) if group else render_report(contents.workspace.ledger.run(name))

    def devices(request: Request) -> str:
        return render_devices(contents.devices(), part=_part(request))

    def fleet(request: Request) -> str:
        return render_fleet(contents.fleet(), contents.boards(), part=_part(request))

    def rollout(request: Request) -> str:
        found = contents.rollouts.rollout(_name(request))
        log = log_of(found.rollout_id, contents.workspace)
        command = next((entry.why for entry in log if entry.what == "rollout.start"), "")
        return render_rollout(found, command=command, log=log)

    addresses: dict[str, View] = {
        "/": runs,
        "/runs/{name}": run,
        "/runs/{name}/report": report,
        "/devices": devices,
        "/fleet": fleet,
        "/rollouts/{name}": rollout,
    }
    return Starlette(
        routes=[Route(path, _page(view), methods=["GET"]) for path, view in addresses.items()],
        exception_handlers={HTTPException: _not_there},
    )


def _page(view: View) -> Callable[[Request], Response]:
    """A view as a page; Starlette runs it in a thread, where it may read files and the ledger."""

    def answer(request: Request) -> Response:
        try:
            return HTMLResponse(view(request))
        except EdgeoptError as error:
            named = isinstance(error, StoreError) and "name" in request.path_params
            status = HTTPStatus.NOT_FOUND if named else HTTPStatus.INTERNAL_SERVER_ERROR
            return HTMLResponse(render_problem(error.message, error.remedy, part=_part(request)), status)

    return answer


def _not_there(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    return HTMLResponse(render_problem("There is no such page.", "", part=_part(request)), status)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _part(request: Request) -> bool:
    return "part" in request.query_params
