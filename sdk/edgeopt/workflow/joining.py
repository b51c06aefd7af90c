"""The study that a run's search belongs to: begun, joined, or refused because it is about something else."""

from __future__ import annotations

from collections.abc import Sequence

from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Settings
from edgeopt.core.space import Space, Trial
from edgeopt.core.study import Subject
from edgeopt.core.variant import Rejection, Variant
from edgeopt.store.keys import exact_key
from edgeopt.store.studies import StudyStore
from edgeopt.workflow.request import SearchRequest
from edgeopt.workflow.searching import search, space_named
from edgeopt.workflow.studying import Study
from edgeopt.workflow.trying import Clock, Field


def search_together(
    field: Field, wanted: SearchRequest, store: StudyStore, *, now: Clock, mark: str = ""
) -> tuple[tuple[Trial, ...], tuple[Variant | Rejection, ...]]:
    """Search in the study of the same network, samples, space, budget and kind of board.

    Args:
        field: Device, network, data.
        wanted: Space, strategy and bounds.
        store: Of studies.
        now: Seconds since the epoch.
        mark: Keeps this study apart from others of the same.

    Returns:
        As `search`.

    Raises:
        UsageError: The study that was named is about something else, such as a network that has changed since.
        DeviceError: The device cannot be reached, or somebody else has it; the trials so far are kept.
    """
    about = subject(field, space_named(wanted.space), mark)
    if not wanted.study and (count := store.outdated(about)):
        field.listener.note(
            f"{about.model} has changed since it was last searched: those {count} trials say nothing of it."
        )
    study = Study(store, store.open(about, wanted.study, now=now()), now)
    kin = store.kin(about)
    if kin and not study.trials():
        field.listener.note(f"The search begins with what was best on {len(kin)} other kinds of boards.")
    return search(field, wanted, study, kin)


def subject(field: Field, space: Space, mark: str = "") -> Subject:
    """What a search is about."""
    prepared, facts = field.maker.prepared, field.maker.facts
    data = prepared.summary
    return Subject(
        model=prepared.model.name,
        model_digest=prepared.model.artifact.digest,
        data_digest=exact_key("data", [data.digest, data.training_digest, data.metric]),
        space=exact_key("space", space),
        budget=field.budget,
        board=_kind(facts, field.profile.name, field.settings),
        mark=mark,
    )


def _kind(facts: DeviceFacts, profile: str, settings: Sequence[Settings]) -> dict[str, str]:
    """Boards of which these are equal take the same time for the same."""
    used = {one.runtime for one in settings}
    return {
        "profile": profile,
        "cpu": f"{facts.cpu or facts.model} {facts.machine}",
        "cores": str(facts.cores_logical),
        "power": f"{facts.power_mode} {facts.governor}".strip(),
        "runtimes": ", ".join(f"{one.name} {one.version}" for one in facts.runtimes if one.name in used),
        "settings": "; ".join(map(str, settings)),
    }
