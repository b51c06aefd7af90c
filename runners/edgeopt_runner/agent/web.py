"""One request to a store over HTTP: proxies, redirects, TLS, and a deadline for every byte; also from a folder.

Where the clock is behind a time that is known to have passed (a board without a battery wakes in 1970), certificates
are not held against the clock: the server's own must not have ended by that time, and that it has begun is not asked.
All that is brought is verified by itself; TLS keeps what is asked for and sent from others.

`http.client` rather than `urllib.request`: only with the socket in hand can a store be cut off that sends one byte of
a header every few seconds.
"""

import base64
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from typing import Any, Dict, Optional, Tuple

from edgeopt_runner.agent import NETWORK, STORE_REFUSED
from edgeopt_runner.refusals import Refusal

MOST_REDIRECTS = 5
SILENCE_SECONDS = 30.0
HEADERS_SECONDS = 60.0
WINDOW_SECONDS = 30.0
LEAST_WINDOW_BYTES = 4096
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""
_BROKEN = (OSError, http.client.HTTPException, ValueError)


class Reply:
    """The answer to a request; close it.

    Attributes:
        url: Where it came from in the end.
        status: HTTP status.
        headers: By name in small letters.
    """

    def __init__(self, url: str, status: int, headers: Dict[str, str], stream: Any, connection: Any = None) -> None:
        self.url, self.status, self.headers = url, status, headers
        self._stream, self._connection = stream, connection
        self._window = (time.monotonic(), 0)

    def read_some(self, count: int) -> bytes:
        """Between 1 and `count` bytes of the body; ``b""`` at its end.

        Raises:
            Refusal: ``network``: it broke off, fell silent, or drips.
        """
        try:
            block: bytes = self._stream.read1(count)
        except _BROKEN as error:
            raise Refusal(NETWORK, "%s broke off: %s" % (shown(self.url), error or type(error).__name__))
        began, seen = self._window
        now, seen = time.monotonic(), seen + len(block)
        if now - began > WINDOW_SECONDS:
            if block and seen < LEAST_WINDOW_BYTES:
                raise Refusal(NETWORK, "%s sent %d bytes in %.0f s" % (shown(self.url), seen, now - began))
            began, seen = now, 0
        self._window = (began, seen)
        return block

    def read_all(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            Refusal: ``store_refused`` where it is longer than `limit`; ``network``.
        """
        body = b""
        while True:
            block = self.read_some(min(1 << 16, limit + 1 - len(body)))
            body += block
            if len(body) > limit:
                raise Refusal(STORE_REFUSED, "%s is longer than the %d bytes allowed" % (shown(self.url), limit))
            if not block:
                break
        promised = self.headers.get("content-length", "")
        if promised.isdigit() and len(body) < int(promised):
            raise Refusal(NETWORK, "%s ended after %d of %s bytes" % (shown(self.url), len(body), promised))
        return body

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> "Reply":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


class Web:
    """How requests are made.

    Args:
        ca: File with the certificates to believe; empty: the system's.
        token: Value of an ``Authorization`` header for the host of the first request; empty: none.
        known: A time that has passed, in seconds since the epoch; 0: none is known.
    """

    def __init__(self, ca: str = "", token: str = "", known: float = 0.0) -> None:
        self._ca, self._token, self._known = ca, token, known
        self._context: Optional[ssl.SSLContext] = None

    def open(
        self, url: str, headers: Optional[Dict[str, str]] = None, method: str = "GET", body: Optional[bytes] = None
    ) -> Reply:
        """Ask once, following redirects.

        Raises:
            Refusal: ``network``, or ``store_refused`` for a redirect that may not be followed or an address that is
                none.
        """
        first, at = split(url), url
        for _ in range(MOST_REDIRECTS + 1):
            parts = split(at)
            if parts.scheme == "file":
                return _from_folder(at, headers or {})
            with_token = parts.scheme == first.scheme and parts.netloc == first.netloc
            reply = self._once(at, self._headers(headers, with_token), method, body)
            if reply.status not in _REDIRECTS:
                return reply
            reply.close()
            at = _next(at, reply.headers.get("location", ""))
        raise Refusal(STORE_REFUSED, "%s redirects more than %d times" % (shown(url), MOST_REDIRECTS))

    def _headers(self, headers: Optional[Dict[str, str]], with_token: bool) -> Dict[str, str]:
        own = {"User-Agent": "edgeopt-runner", "Connection": "close", "Accept-Encoding": "identity"}
        if self._token and with_token:
            own["Authorization"] = self._token
        return dict(own, **(headers or {}))

    def _once(self, url: str, headers: Dict[str, str], method: str, body: Optional[bytes]) -> Reply:
        connection, target, extra = self._connection(split(url))
        late = threading.Event()
        watch = threading.Timer(HEADERS_SECONDS, _cut, [connection, late])
        watch.daemon = True
        watch.start()
        try:
            if url.startswith("https:") and self._behind():
                self._greet(connection)
            connection.request(method, target, body=body, headers=dict(headers, **extra))
            answer = connection.getresponse()
            if late.is_set():  # headers that end early are headers to `http.client`
                raise OSError("its headers took more than %.0f s" % HEADERS_SECONDS)
        except _BROKEN as error:
            connection.close()
            reason = "%s%s" % (error or type(error).__name__, _clock_words(error))
            raise Refusal(NETWORK, "%s cannot be reached: %s" % (shown(url), reason))
        finally:
            watch.cancel()
        return Reply(url, answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer, connection)

    def _connection(self, parts: urllib.parse.SplitResult) -> Tuple[Any, str, Dict[str, str]]:
        """The connection, what to ask it for, and the headers that the proxy wants."""
        host, port, secure = parts.hostname or "", parts.port, parts.scheme == "https"
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        proxy = _proxy(parts.scheme, host)
        at, extra = (host, port), {}
        if proxy is not None:
            at = (proxy.hostname or "", proxy.port or 80)
            extra = _proxy_login(proxy)
        if not secure:
            if proxy is not None:
                target = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))
            return http.client.HTTPConnection(at[0], at[1], timeout=SILENCE_SECONDS), target, extra
        connection = http.client.HTTPSConnection(at[0], at[1], timeout=SILENCE_SECONDS, context=self._tls())
        if proxy is not None:
            connection.set_tunnel(host, port or 443, extra)
        return connection, target, {}

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca or None)
                if self._behind():
                    self._context.verify_flags |= _NO_CHECK_TIME
            except (OSError, ssl.SSLError) as error:
                raise Refusal(STORE_REFUSED, "cannot read the certificates in %s: %s" % (self._ca, error))
        return self._context

    def _behind(self) -> bool:
        """Whether the clock is known to be wrong."""
        return time.time() < self._known

    def _greet(self, connection: Any) -> None:
        """Connect, and refuse a certificate that had ended by the time that is known. Raises OSError."""
        connection.connect()
        until = connection.sock.getpeercert()["notAfter"]
        if ssl.cert_time_to_seconds(until) < self._known:
            raise OSError("its certificate ended on %s" % until)


def split(url: str) -> urllib.parse.SplitResult:
    """The parts of an address of a store.

    Raises:
        Refusal: ``store_refused``: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        raise Refusal(STORE_REFUSED, "%.200r is no address" % url)
    plain = all("!" <= character <= "~" for character in url)
    if not plain or not (sound or parts.scheme == "file" and not parts.netloc):
        remedy = "Give http://, https:// or file:///."
        raise Refusal(STORE_REFUSED, "%.200r is no address of a store" % url, remedy)
    return parts


def shown(url: str) -> str:
    """An address for messages: without a login and without a query, which may be a secret."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _clock_words(error: BaseException) -> str:
    """What the clock says, behind an error that may come of it."""
    if "not yet valid" not in str(error) and "expired" not in str(error):
        return ""
    return " (this board's clock says %s)" % time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _next(at: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        Refusal: Nowhere, from HTTPS to plain HTTP, or out of the web.
    """
    target = urllib.parse.urljoin(at, location)
    parts = split(target) if location else None
    if parts is None or parts.scheme == "file" or (parts.scheme == "http" and at.startswith("https:")):
        raise Refusal(STORE_REFUSED, "%s redirects to %.200r" % (shown(at), location))
    return target


def _proxy(scheme: str, host: str) -> Optional[urllib.parse.SplitResult]:
    """The proxy of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``)."""
    address = urllib.request.getproxies().get(scheme)
    if not address or urllib.request.proxy_bypass(host):
        return None
    return split(address if "://" in address else "http://" + address)


def _proxy_login(proxy: urllib.parse.SplitResult) -> Dict[str, str]:
    if not proxy.username:
        return {}
    login = "%s:%s" % (urllib.parse.unquote(proxy.username), urllib.parse.unquote(proxy.password or ""))
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")}


def _cut(connection: Any, late: threading.Event) -> None:
    """End a connection whose headers take too long."""
    late.set()
    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _from_folder(url: str, headers: Dict[str, str]) -> Reply:
    """The same from a mounted folder, as a server would answer."""
    path = urllib.request.url2pathname(urllib.parse.urlsplit(url).path)
    try:
        stream = open(path, "rb")
        size = os.fstat(stream.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Reply(url, 404, {}, open(os.devnull, "rb"))
    except OSError as error:
        raise Refusal(NETWORK, "cannot read %s: %s" % (path, error.strerror), "Is the medium still there?")
    offset = int(headers.get("Range", "bytes=0-")[len("bytes=") : -1])
    stream.seek(offset)
    where = {"content-length": str(max(0, size - offset)), "content-range": "bytes %d-%d/%d" % (offset, size - 1, size)}
    return Reply(url, 206 if offset else 200, where, stream)
