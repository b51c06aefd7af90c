"""Result documents: one shape for every end of a job, also for jobs that never got to measure anything."""

import re
from typing import Any, Dict

from edgeopt_runner.protocol import RUNNER_VERSION

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DETAIL_LIMIT = 500


def one_line(text: str) -> str:
    """Printable text on one line, without colours, shortened."""
    plain = _COLOUR.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:_DETAIL_LIMIT]


def result_document(job: Dict[str, Any], status: str, detail: str, fields: Dict[str, Any]) -> Dict[str, Any]:
    """The result of a job.

    Args:
        job: The job document.
        status: ``ok`` or what happened instead.
        detail: One sentence on a status that is not ``ok``.
        fields: What its kind adds (``measurement``, ``deployment``, ...). A ``measure`` without a measurement gets one
            that says what was ordered and how it ended.
    """
    detail = one_line(detail)
    document = {"job_id": job.get("job_id"), "nonce": job.get("nonce"), "kind": job.get("kind")}
    document.update({key: value for key, value in fields.items() if key not in ("status", "detail")})
    document.update(status=status, detail=detail)
    if job.get("kind") == "measure" and not isinstance(document.get("measurement"), dict):
        document["measurement"] = _empty_measurement(job, status, detail)
    return document


def _empty_measurement(job: Dict[str, Any], status: str, detail: str) -> Dict[str, Any]:
    return {
        "variant_digest": job["artifact"]["sha256"],
        "settings": job.get("settings"),
        "plan": job.get("plan"),
        "device_fingerprint": "",
        "runtime_version": "",
        "runner": RUNNER_VERSION,
        "status": status,
        "detail": detail,
    }
