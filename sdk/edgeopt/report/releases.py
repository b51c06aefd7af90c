"""Releases on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from edgeopt.core.release import Release
from edgeopt.report import quantities as q
from edgeopt.report.layout import facts, table, text


def print_releases(releases: Sequence[Release], console: Console) -> None:
    """A line a release, or how to publish the first."""
    if not releases:
        console.print("Nothing is published yet. Next: edgeopt publish APP@1.0 --from last")
        return
    made = table("release", "counter", "published, UTC", "expires", "profiles", "revokes", right=(1,))
    for release in releases:
        made.add_row(
            text(release.name),
            str(release.counter),
            q.moment(release.created),
            q.moment(release.expires),
            text(", ".join(release.entries)),
            text(", ".join(release.revoked)),
        )
    console.print(made)


def print_release(release: Release, manifest: str, console: Console) -> None:
    """A release with a line a profile."""
    rows = (
        ("release", f"{release.name}, counter {release.counter}"),
        ("restores", release.restores),
        ("published", f"{q.moment(release.created)} UTC, expires {q.moment(release.expires)} UTC"),
        ("revokes", ", ".join(release.revoked)),
        ("manifest", manifest),
        ("notes", release.notes),
    )
    facts(console, rows)
    made = table("profile", "variant", "runs as", "file", "p95 limit", "memory limit", "cosine", right=(3, 4, 5, 6))
    for profile, entry in release.entries.items():
        made.add_row(
            text(profile),
            text(entry.variant, limit=60),
            text(f"{entry.settings.runtime}, {entry.settings}"),
            q.size(entry.model.size_bytes),
            q.milliseconds(entry.health.max_latency_ns),
            q.size(entry.health.max_memory_bytes),
            f"{entry.health.min_cosine:.4f}",
        )
    console.print(made)
