"""One request: silence, drips, TLS with an authority of one's own, proxies of the environment, redirects."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID

from edgeopt_runner.agent import web
from edgeopt_runner.agent.web import Web
from edgeopt_runner.refusals import Refusal

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(serve: Serve) -> Iterator[int]:
    """A server that does with every connection what it is told; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def answering(head: str, body: bytes = b"") -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)

    return serve


def silent(connection: socket.socket) -> None:
    time.sleep(30)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def read(port: int, limit: int = 100) -> bytes:
    with Web().open(f"http://127.0.0.1:{port}/x") as reply:
        return reply.read_all(limit)


@pytest.mark.parametrize("serve", [silent, drip_headers, drip_body])
def test_a_store_that_is_silent_or_drips_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILENCE_SECONDS", "HEADERS_SECONDS", "WINDOW_SECONDS"):
        monkeypatch.setattr(web, name, 0.5)
    with server(serve) as port, pytest.raises(Refusal) as refused:
        read(port, 1 << 20)
    assert refused.value.code == "network"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("200 OK\r\nContent-Length: 10", "network"),
        ("302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0", "store_refused"),
        ("302 Found\r\nLocation: ftp://x/\r\nContent-Length: 0", "store_refused"),
        ("302 Found\r\nContent-Length: 0", "store_refused"),
        ("garbage", "network"),
        ("200 OK\r\nContent-Length: -5", ""),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", "network"),
    ],
)
def test_answers_that_are_none_have_their_code(head: str, code: str) -> None:
    with server(answering(head)) as port:
        if not code:
            read(port)
            return
        with pytest.raises(Refusal) as refused:
            read(port)
    assert refused.value.code == code


def test_a_body_beyond_its_limit_is_refused() -> None:
    with server(answering("200 OK\r\nContent-Length: 4000", b"x" * 4000)) as port, pytest.raises(Refusal) as refused:
        read(port)
    assert refused.value.code == "store_refused"


def test_a_token_goes_to_its_own_host_only() -> None:
    seen: list[bytes] = []

    def note(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(note) as other:
        head = f"302 Found\r\nLocation: http://127.0.0.1:{other}/y\r\nContent-Length: 0"
        with (
            server(answering(head)) as first,
            Web(token="TargetToken abc").open(f"http://127.0.0.1:{first}/x") as reply,
        ):
            assert reply.status == 200
    assert b"GET /y " in seen[0]
    assert b"abc" not in seen[0]


def test_https_with_an_authority_of_ones_own_and_no_way_down_to_http(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    answers = [answering("200 OK\r\nContent-Length: 2", b"ok")]

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answers[0](secure)

    with server(serve) as port:
        with Web(str(certificate)).open(f"https://127.0.0.1:{port}/x") as reply:
            assert reply.read_all(10) == b"ok"
        with pytest.raises(Refusal) as refused:
            Web().open(f"https://127.0.0.1:{port}/x")
        assert refused.value.code == "network"
        assert "certificate" in refused.value.message.lower()
        answers[0] = answering("302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0")
        with pytest.raises(Refusal) as refused:
            Web(str(certificate)).open(f"https://127.0.0.1:{port}/x")
        assert refused.value.code == "store_refused"


def authority(folder: Path, begins: dt.datetime, ends: dt.datetime) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of that validity, and the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begins, ends)
    signed = made.add_extension(address, False).sign(key, hashes.SHA256())
    pem, private = signed.public_bytes(Encoding.PEM), serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, private) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "key.pem")
    return context, folder / "ca.pem"


def asked_with(url: str, ca: Path, known: float) -> str:
    """What a request says: the body, or why there is none."""
    try:
        with Web(str(ca), known=known).open(url) as reply:
            return reply.read_all(10).decode()
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.message}"


def test_where_the_clock_stands_certificates_are_held_against_the_time_that_is_known(tmp_path: Path) -> None:
    """The clock of a board in 1970 against a certificate of today is this clock against one of the years to come."""
    now = dt.datetime.now(dt.timezone.utc)
    years = [now + dt.timedelta(days=365 * count) for count in range(8)]
    context, ca = authority(tmp_path, years[2], years[4])
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError, OSError), context.wrap_socket(connection, server_side=True) as secure:
            seen.append(secure.recv(65536))
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with server(serve) as port:
        url = f"https://127.0.0.1:{port}/x"
        unknown = asked_with(url, ca, 0.0)
        assert unknown.startswith("network: ")
        assert "certificate is not yet valid" in unknown
        assert "(this board's clock says" in unknown
        assert "not yet valid" in asked_with(url, ca, years[0].timestamp())
        assert asked_with(url, ca, years[3].timestamp()) == "ok"
        assert asked_with(url, ca, years[1].timestamp()) == "ok"  # made since the board last heard a time
        sent = len(seen)
        assert "its certificate ended on" in asked_with(url, ca, years[5].timestamp())
        other = tmp_path / "other"
        other.mkdir()
        assert "certificate verify failed" in asked_with(url, authority(other, now, years[7])[1], years[3].timestamp())
        assert [data for data in seen[sent:] if data] == []  # nothing was asked of either


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with server(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://anna:secret@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        with Web().open("http://store.example/tree/x?y=1") as reply:
            assert reply.read_all(10) == b"ok"
    assert seen[0].startswith(b"GET http://store.example/tree/x?y=1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic YW5uYTpzZWNyZXQ=" in seen[0]


@pytest.mark.parametrize(
    "url", ["", "store", "http://", "ftp://x/", "http://x:99999/", "http://x/\r\nHost: y", "file://h/x"]
)
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        Web().open(url)
    assert refused.value.code == "store_refused"
