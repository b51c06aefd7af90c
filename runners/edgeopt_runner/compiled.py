"""The runner compiled for one interpreter, in a file beside the bundle: on a slow board a worker starts seconds sooner.

Python keeps no compiled form of what it imports from a zip file. Unpacking the bundle into a folder would do too, at
the price of a hundred small files that a power cut may leave empty. The bundle's digest is checked at every contact,
this file's checksum (its first 4 bytes) at every start.
"""

import os
import struct
import sys
import zlib

from edgeopt_runner import storage

_FLAGS = b"\0\0\0\0" if sys.version_info >= (3, 7) else b""


def compiled_path(bundle: str) -> str:
    """Where the compiled form of this very file for this interpreter lies; the bundle's `__main__` looks there too."""
    written = os.stat(bundle).st_mtime_ns
    return "%s.%x.%s.pyz" % (os.path.splitext(bundle)[0], written, sys.implementation.cache_tag)


def keep(bundle: str) -> None:
    """Compile the bundle for this interpreter, unless that was done; nothing is kept where the disk does not take it.

    Args:
        bundle: The bundle; where it is no file (the runner runs from its source tree) nothing happens.
    """
    if not os.path.isfile(bundle) or os.path.exists(compiled_path(bundle)):
        return
    import io
    import zipfile  # costs more than all else here, where nothing is left to do

    buffer = io.BytesIO()
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            if "/" in name:  # not __main__.py, which leads here
                archive.writestr(name + "c", _compiled(source.read(name), name))
    try:
        data = buffer.getvalue()
        storage.write_atomically(compiled_path(bundle), struct.pack("<I", zlib.crc32(data)) + data)
    except OSError:
        pass  # full or read-only: every process compiles what it needs, as before


def _compiled(text: bytes, name: str) -> bytes:
    """A ``.pyc`` file; its time of 0 means that no source is compared with it."""
    import importlib.util
    import marshal

    head = importlib.util.MAGIC_NUMBER + _FLAGS + struct.pack("<II", 0, len(text))
    return head + marshal.dumps(compile(text, name, "exec", dont_inherit=True))
