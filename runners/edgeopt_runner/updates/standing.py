"""Job kinds ``recheck`` (measure what runs, for the soak of a wave) and ``return`` (go back on an operator's order)."""

from typing import Any, Dict, List, Optional

from edgeopt_runner import protocol, transaction
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.updates import app_state, health, order
from edgeopt_runner.updates.update import ABORTED, COMMITTED, NOTHING_TO_DO, ROLLED_BACK, SAFE_STOP, holder_of, remember

HEALTHY, UNHEALTHY, INCONCLUSIVE = "healthy", "unhealthy", "inconclusive"
_LAUNCHES = 2


def recheck(root: str, job: Dict[str, Any], check: health.Check) -> Dict[str, Any]:
    """Measure the active release again; nothing is changed by what is found, but that it is remembered.

    Args:
        root: The runner's root.
        job: ``app`` and ``fence``.
        check: Runs a ``check`` job in a guarded worker.

    Returns:
        ``status``, ``detail`` and ``recheck``: ``figures`` (or null), ``verdict`` (``healthy``, ``unhealthy`` or
        ``inconclusive``), ``reason``, ``version`` and ``manifest``.
    """
    found: Dict[str, Any] = {"figures": None, "verdict": INCONCLUSIVE, "reason": "", "version": "", "manifest": ""}
    status, detail = protocol.OK, ""
    try:
        store = ReleaseStore(root, job.get("app"))
        with store.locked():
            transaction.undo(store)
            app_state.remembered(store).check_fence(order.fence(job.get("fence", 0)))
            _measure(store, job, check, found)
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        status, detail = refusal.code, refusal.message
    return {"status": status, "detail": detail, "recheck": found}


def _measure(store: ReleaseStore, job: Dict[str, Any], check: health.Check, found: Dict[str, Any]) -> None:
    current = store.pointer("current")
    if current is None:
        raise Refusal(protocol.UNKNOWN_APP, "this device has no active release of %s" % store.name, "Update it.")
    manifest = store.verify(current)
    found.update(version=manifest.get("version", ""), manifest=manifest.get("manifest", ""))
    launches: List[health.Launch] = []
    try:
        for _ in range(_LAUNCHES):
            runs = health.runs_each(manifest, _LAUNCHES)
            launches.append(health.launch(store, current, check, job.get("limits"), runs))
            found["figures"] = health.figures(launches)
        health.judge(found["figures"], manifest)
        found["verdict"] = HEALTHY
    except Refusal as error:
        if error.code not in (protocol.HEALTH_FAILED, protocol.INCONCLUSIVE):
            raise
        found.update(verdict=UNHEALTHY if error.code == protocol.HEALTH_FAILED else INCONCLUSIVE, reason=error.message)
    if found["figures"] is not None:
        state = app_state.remembered(store)
        state.figures = found["figures"]
        remember(store, state)


def go_back(root: str, job: Dict[str, Any], check: health.Check) -> Dict[str, Any]:
    """Make an earlier release of this board active again.

    Args:
        root: The runner's root.
        job: ``app``, ``fence`` and ``to_manifest``: digest of the manifest of a release that is still here; empty: the
            previous one.
        check: Runs a ``check`` job in a guarded worker.

    Returns:
        ``status``, ``detail`` and ``update`` as of an ``update`` job; outcomes are ``committed``, ``nothing``,
        ``aborted``, ``rolled_back`` (it is not healthy any more) and ``safe_stop``.
    """
    steps: List[str] = []
    launches: List[health.Launch] = []
    store: Optional[ReleaseStore] = None
    try:
        store = ReleaseStore(root, job.get("app"))
        with store.locked():
            transaction.undo(store)
            outcome, code, reason = _go_back(store, job, check, steps, launches)
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        outcome, code = ROLLED_BACK if "activate" in steps else ABORTED, refusal.code
        reason = refusal.sentences
        if store and app_state.remembered(store).safe_stop:
            outcome = SAFE_STOP
    return _answer(store, outcome, code, reason, steps, launches)


def _answer(
    store: Optional[ReleaseStore], outcome: str, code: str, reason: str, steps: List[str], seen: List[health.Launch]
) -> Dict[str, Any]:
    current = store.pointer("current") if store else None
    manifest = store.manifest(current) if store and current is not None else {}
    found: Dict[str, Any] = {"outcome": outcome, "code": code, "reason": reason}
    found.update(
        step=steps[-1] if steps else "preflight",
        before=None,
        after=health.figures(seen),
        version=manifest.get("version", ""),
        release=current or 0,
    )
    return {"status": code or protocol.OK, "detail": reason, "update": dict(found, transitions=steps)}


def _go_back(
    store: ReleaseStore, job: Dict[str, Any], check: health.Check, steps: List[str], seen: List[health.Launch]
) -> Any:
    state = app_state.remembered(store)
    fence = order.fence(job.get("fence", 0))
    state.check_fence(fence)
    state.take_fence(fence, holder_of(job))
    remember(store, state)
    current, target = store.pointer("current"), _target(store, job)
    if target == current:
        return NOTHING_TO_DO, "", "it is active already"
    manifest = store.verify(target)
    if manifest.get("version") in state.revoked:
        raise Refusal(protocol.REVOKED, "%s is revoked" % manifest["version"], "Publish a release that is not.")
    steps.append("smoke")
    seen.append(health.launch(store, target, check, job.get("limits")))
    record = transaction.begin(store, target, "rollback", who=holder_of(job), version=manifest.get("version", ""))
    record.update(signed=bool(manifest.get("signed")), rollout=str(job.get("rollout", ""))[:64])
    steps.append("activate")

    def look(number: int) -> str:
        steps.append("health")
        seen.append(health.launch(store, number, check, job.get("limits")))
        record["figures"] = health.figures(seen)
        return health.words(seen[-1])

    words = transaction.switch(store, record, look)
    return COMMITTED, "", words


def _target(store: ReleaseStore, job: Dict[str, Any]) -> int:
    """The release to go back to. Raises Refusal ``no_previous``."""
    wanted = job.get("to_manifest") or ""
    if not wanted:
        previous = store.pointer("previous")
        if previous is None:
            raise Refusal(protocol.NO_PREVIOUS, "%s has no previous release to go back to" % store.name, "Update it.")
        return previous
    for number in reversed(store.numbers()):
        if store.manifest(number).get("manifest") == wanted:
            return number
    message = "no release of %s here has the manifest %.12s" % (store.name, wanted)
    raise Refusal(protocol.NO_PREVIOUS, message, "Update the board to it.")
