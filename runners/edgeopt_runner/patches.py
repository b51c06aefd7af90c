"""Rebuilds a file from one that the board has and a patch (`protocol.patch_format`), in a few MiB whatever its size."""

import hashlib
import os
from typing import Iterator, Optional

from edgeopt_runner import faults, links, patch_numbers, storage
from edgeopt_runner.patch_streams import StreamReader
from edgeopt_runner.protocol import BAD_PATCH, DIGEST_MISMATCH, MISSING_OBJECT
from edgeopt_runner.protocol.patch_format import COPY, DATA, OPERATION, BadPatch, Patch, decoder_share, parse
from edgeopt_runner.refusals import Refusal

SEND_WHOLE = "Send the whole file."
_BLOCK_BYTES = 128 << 10


def apply(base_path: Optional[str], patch_path: str, out_path: str, digest: str, size: int) -> None:
    """Write the result of a patch, verified, under `out_path`; what a failure leaves is ``<out_path>.rebuild`` at most.

    Args:
        base_path: The file that the patch was made for; ``None`` for a patch without a base.
        patch_path: The patch.
        out_path: The file to make.
        digest: SHA-256 that it must have.
        size: Bytes that it must have; no more are ever written.

    Raises:
        Refusal: ``bad_patch``: it is damaged, or for another base or result. ``digest_mismatch``: base or patch are
            not what they were when the patch was made. ``missing_object``: there is no such file.
        OSError: The disk failed.
    """
    temporary = out_path + ".rebuild"
    links.remove_file(temporary)
    try:
        _write(base_path, patch_path, temporary, digest, size)
    except BadPatch as error:
        links.remove_file(temporary)
        raise Refusal(BAD_PATCH, "the patch for %s is of no use: %s" % (digest[:12], error), SEND_WHOLE)
    except FileNotFoundError as error:
        raise Refusal(MISSING_OBJECT, "%s is not there any more" % error.filename, SEND_WHOLE)
    except BaseException:
        links.remove_file(temporary)
        raise
    faults.point("rebuild.before_rename", match=digest)
    os.replace(temporary, out_path)
    storage.sync(os.path.dirname(os.path.abspath(out_path)))


def _write(base_path: Optional[str], patch_path: str, temporary: str, digest: str, size: int) -> None:
    """Fill the temporary file, verify it, and make it survive a power cut."""
    with open(patch_path, "rb", buffering=0) as patch_file:
        patch = parse(patch_file.read, os.fstat(patch_file.fileno()).st_size)
        _check_purpose(patch, base_path, digest, size)
        with open(base_path or os.devnull, "rb", buffering=0) as base, open(temporary, "xb", buffering=0) as out:
            faults.point("rebuild.apply", match=digest)
            found = hashlib.sha256()
            for block in _blocks(patch, base.fileno(), patch_file.fileno()):
                found.update(block)
                _write_all(out.fileno(), block)
            if found.hexdigest() != digest:
                raise Refusal(DIGEST_MISMATCH, _why(patch, base_path, found.hexdigest()), SEND_WHOLE)
            os.fsync(out.fileno())


def _check_purpose(patch: Patch, base_path: Optional[str], digest: str, size: int) -> None:
    if (patch.result, patch.result_bytes) != (digest, size):
        raise BadPatch("it makes %s of %d bytes" % (patch.result[:12], patch.result_bytes))
    if bool(patch.base) != bool(base_path):
        raise BadPatch("it is for the base %s" % (patch.base[:12] or "that is none"))
    if base_path and os.path.getsize(base_path) != patch.base_bytes:
        raise BadPatch("its base has %d bytes, and %s has others" % (patch.base_bytes, os.path.basename(base_path)))


def _why(patch: Patch, base_path: Optional[str], found: str) -> str:
    """What is wrong when the result is; the base is hashed only now, since it hardly ever is the reason."""
    if base_path and links.sha256_of(base_path) != patch.base:
        return "the base is not %s any more: it is damaged" % patch.base[:12]
    return "what was rebuilt has SHA-256 %s, not %s" % (found, patch.result)


def _write_all(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _blocks(patch: Patch, base: int, patch_file: int) -> Iterator[bytes]:
    """The result from front to back."""
    limit = decoder_share(len(patch.streams))
    readers = {key: StreamReader(patch_file, stream, limit) for key, stream in patch.streams.items()}
    for kind, width, _, _, length, offset in OPERATION.iter_unpack(patch.operations):
        for start in range(0, length, _BLOCK_BYTES):
            count = min(_BLOCK_BYTES, length - start)
            old = _read_base(base, count, offset + start) if kind != DATA else b""
            planes = [readers[kind, width, plane].read(count // width) for plane in range(width if kind != COPY else 0)]
            yield patch_numbers.combined(kind, width, old, planes)


def _read_base(descriptor: int, count: int, offset: int) -> bytes:
    block = os.pread(descriptor, count, offset)
    while len(block) < count:
        more = os.pread(descriptor, count - len(block), offset + len(block))
        if not more:
            raise BadPatch("the base is shorter than it was")
        block += more
    return block
