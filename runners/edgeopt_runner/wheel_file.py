"""Unpacks a wheel into a site-packages folder: every file checked against RECORD, no path outside, no scripts.

pip does this too, but boards ship an old pip or none, and Debian leaves out the package that puts pip into a virtual
environment. Format: PEP 427 (wheel 1.0) and the recording of installed projects.
"""

import base64
import csv
import hashlib
import os
import stat
import zipfile
from typing import Dict, List, Optional, Tuple

from edgeopt_runner.protocol import BAD_REQUEST, DIGEST_MISMATCH
from edgeopt_runner.refusals import Refusal

_BLOCK_BYTES = 1 << 20
_IMPORTED = ("purelib", "platlib")
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")


def unpacked_bytes(path: str) -> int:
    """How much room the wheel's files take.

    Raises:
        Refusal: It is not a zip file.
    """
    with _opened(path) as archive:
        return sum(info.file_size for info in archive.infolist())


def unpack(path: str, site_packages: str) -> None:
    """Put the importable files of a wheel into `site_packages`.

    Raises:
        Refusal: Not a wheel, a path that leads outside or a link (`bad_request`), a file that RECORD does not name or
            whose digest differs (`digest_mismatch`).
    """
    with _opened(path) as archive:
        record = _record(archive)
        for info in archive.infolist():
            place = _place(info)
            if place is not None:
                _extract(archive, info, os.path.join(site_packages, *place), record)


def _opened(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise Refusal(BAD_REQUEST, "%s is not a wheel" % os.path.basename(path))


def _record(archive: zipfile.ZipFile) -> Dict[str, Tuple[str, str]]:
    """Algorithm and digest by file name."""
    names = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD") and name.count("/") == 1]
    if len(names) != 1:
        raise Refusal(BAD_REQUEST, "%s has no RECORD" % os.path.basename(str(archive.filename)))
    rows = csv.reader(archive.read(names[0]).decode("utf-8").splitlines())
    found = {}
    for row in rows:
        algorithm, _, digest = (row + ["", ""])[1].partition("=")
        found[row[0]] = (algorithm, digest)
    return found


def _place(info: zipfile.ZipInfo) -> Optional[List[str]]:
    """Where a member goes below site-packages; `None` for folders, scripts, headers and data."""
    parts = info.filename.split("/")
    outside = "\\" in info.filename or "" in parts[:-1] or {".", ".."}.intersection(parts)
    if outside or stat.S_ISLNK(info.external_attr >> 16):
        raise Refusal(BAD_REQUEST, "the wheel's member %.120r leads outside or is a link" % info.filename)
    if parts[-1] == "":
        return None
    if parts[0].endswith(".data"):
        return parts[2:] if len(parts) > 2 and parts[1] in _IMPORTED else None
    return parts


def _extract(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, destination: str, record: Dict[str, Tuple[str, str]]
) -> None:
    algorithm, expected = record.get(info.filename, ("", ""))
    unhashed = info.filename.count("/") == 1 and info.filename.rpartition("/")[2] in _UNHASHED
    if not unhashed and algorithm not in ("sha256", "sha384", "sha512"):
        raise Refusal(DIGEST_MISMATCH, "the wheel's RECORD has no digest of %s" % info.filename)
    digest = hashlib.new(algorithm or "sha256")
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    try:
        with archive.open(info) as source, open(destination, "wb") as target:
            for block in iter(lambda: source.read(_BLOCK_BYTES), b""):
                digest.update(block)
                target.write(block)
    except zipfile.BadZipFile as error:
        raise Refusal(DIGEST_MISMATCH, "the wheel's %s is damaged: %s" % (info.filename, error))
    if (info.external_attr >> 16) & 0o111:
        os.chmod(destination, 0o755)
    found = base64.urlsafe_b64encode(digest.digest()).decode("ascii").rstrip("=")
    if not unhashed and found != expected.rstrip("="):
        raise Refusal(DIGEST_MISMATCH, "the wheel's %s is damaged: its digest is not the one in RECORD" % info.filename)
