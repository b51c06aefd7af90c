"""Small wheels made on the spot, right or wrong in one respect."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}"


def make_wheel(
    folder: Path, project: str, files: dict[str, bytes], *, record: str | None = None, links: tuple[str, ...] = ()
) -> Path:
    """Write `<project>-1.0-py3-none-any.whl` with these members; `record` replaces the right RECORD."""
    info = f"{project}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n".encode()
    tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": tags}
    lines = [record_line(name, content) for name, content in members.items() if not name.endswith("/")]
    text = "\n".join([*lines, f"{info}/RECORD,,"]) if record is None else record
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{project}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.external_attr = (0o120777 if name in links else 0o100644) << 16
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", text)
    return path
