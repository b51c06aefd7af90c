"""Who may read the local page: whoever has the token, in a browser on this computer, under this computer's own name.

Any program of this computer, and any web page that a browser of it shows, can send requests to a loopback port. The
token keeps out the first; the check of `Host` keeps out pages whose name was made to point here (DNS rebinding,
CWE-350); a strict cookie and the headers keep other sites from reading or framing what is shown.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Stands before the application.

    Args:
        app: What is guarded.
        token: Whoever knows it may read.
        port: Where it listens.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app, self._token, self._port = app, token, port
        self._cookie = f"edgeopt-{port}"  # cookies do not tell ports apart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            return  # no websockets, nothing to do at the start or the end
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._answer(request) or self._app)(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """A refusal or the way in; ``None`` lets the request through."""
        if request.headers.getlist("host") not in self._hosts():
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, f"This page is at http://127.0.0.1:{self._port}/ only.")
        if request.method not in ("GET", "HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "This page can only be read.")
        if "token" in request.query_params:
            return self._entered(request)
        if not self._known(request.cookies.get(self._cookie, "")):
            return _refusal(HTTPStatus.FORBIDDEN, "Open the address that edgeopt ui printed: it has the token.")
        return None

    def _hosts(self) -> list[list[str]]:
        return [[f"{name}:{self._port}"] for name in ("127.0.0.1", "localhost")]

    def _known(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())

    def _entered(self, request: Request) -> Response:
        """Take the token out of the address, where history and screenshots would keep it, and into a cookie."""
        if not self._known(request.query_params["token"]):
            return _refusal(HTTPStatus.FORBIDDEN, "The token is another one: edgeopt ui makes a new one each time.")
        others = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # doubled slashes would make the path an address of another host
        path = "/" + request.url.path.lstrip("/") + (f"?{urlencode(others)}" if others else "")
        response = RedirectResponse(path, HTTPStatus.SEE_OTHER)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response


def _refusal(status: HTTPStatus, text: str) -> Response:
    headers = {"Allow": "GET, HEAD"} if status is HTTPStatus.METHOD_NOT_ALLOWED else None
    return PlainTextResponse(f"{text}\n", status, headers)
