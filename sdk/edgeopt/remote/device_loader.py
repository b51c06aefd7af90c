"""Runs on the device, never here: takes the runner's bundle from stdin unless it is there, and goes on as its `serve`.

Sent as text by `edgeopt.remote.loader`. Python 3.6 and the standard library; it cannot import anything of ours.
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
import time
import zipimport
import zlib
from typing import Any


def say(**document: Any) -> None:
    """Write one frame (see `edgeopt_runner.protocol.frames`)."""
    body = json.dumps(document).encode("utf-8")
    data = b"\x1e EDGEOPT1 %d %08x\n" % (len(body), zlib.crc32(body) & 0xFFFFFFFF) + body + b"\n"
    while data:
        data = data[os.write(1, data) :]


def is_sound(bundle: str, digest: str) -> bool:
    """Whether the bundle is there, whole."""
    try:
        with open(bundle, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == digest
    except OSError:
        return False


def take(size: int) -> bytearray:
    """Exactly `size` bytes of stdin; nothing behind them, since that is for `serve`."""
    data = bytearray()
    while len(data) < size:
        chunk = os.read(0, min(1 << 20, size - len(data)))
        if not chunk:
            sys.exit(3)
        data += chunk
    return data


def packing() -> str:
    """How the bundle is to travel; some builds of Python lack the better way."""
    try:
        import lzma  # noqa: F401
    except ImportError:
        return "zlib"
    return "lzma"


def unpacked(data: bytearray) -> bytes:
    """What travelled compressed; nothing where it is damaged, which has another digest."""
    try:
        if packing() == "zlib":
            return zlib.decompress(bytes(data))
        import lzma

        return lzma.decompress(data)
    except Exception:
        return b""


def install(bundle: str, digest: str, data: bytes) -> None:
    """Put the bundle in place: the old state or the new one, also after a power cut."""
    import tempfile  # like `lzma` a burden where the bundle is there, which is nearly always

    if hashlib.sha256(data).hexdigest() != digest:
        raise OSError(errno.EIO, "the runner arrived damaged", bundle)
    folder = os.path.dirname(bundle)
    descriptor, partial = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(partial, bundle)
    except BaseException:
        os.unlink(partial)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def point(link: str, digest: str) -> None:
    """Make `current` name this bundle."""
    if os.path.islink(link) and os.readlink(link) == digest:
        return
    partial = f"{link}.{os.getpid()}"
    os.symlink(digest, partial)
    os.replace(partial, link)


def main(root: str, digest: str, size: int, small: int) -> None:
    """Place the bundle, so many bytes by zlib and by lzma, under `root` and run it."""
    root = os.path.abspath(os.path.expanduser(root))
    folder = os.path.join(root, "runner", digest)
    bundle = os.path.join(folder, "edgeopt_runner.pyz")
    version = list(sys.version_info[:3])
    try:
        os.makedirs(folder, exist_ok=True)
        have = is_sound(bundle, digest)
        way = "" if have else packing()
        facts = {"python": sys.executable, "version": version, "bundle": bundle, "root": root, "time": time.time()}
        say(have=have, packing=way, **facts)
        if not have:
            install(bundle, digest, unpacked(take(small if way == "lzma" else size)))
        point(os.path.join(root, "runner", "current"), digest)
        say(ok=True)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "")
        say(error=code, message=f"{error.filename or root}: {error.strerror}")
        sys.exit(1)
    become(bundle, root)


def become(bundle: str, root: str) -> None:
    """Go on as ``PY -I BUNDLE serve`` would, without starting a second interpreter."""
    sys.path.insert(0, bundle)
    sys.argv = [bundle, "serve", "--root", root]
    exec(zipimport.zipimporter(bundle).get_code("__main__"), {"__name__": "__main__"})


if __name__ == "__main__":
    with contextlib.suppress(SystemExit):  # what matters was said in frames; the shell is to try no other interpreter
        main(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
