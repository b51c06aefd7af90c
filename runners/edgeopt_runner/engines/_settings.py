"""Reading settings: each engine takes those that its runtime obeys, and refuses others rather than ignoring them.

A setting that is ignored makes the figures wrong: a record would say ``float16`` of a float32 run.
"""

from typing import Any, Dict, Iterable, Sequence

from edgeopt_runner.engines._base import LoadFailed

DEFAULTS: Dict[str, Any] = {
    "graph_optimisation": "all",
    "inter_op": 1,
    "precision": "",
    "provider": "",
    "spinning": True,
}
"""What engines without such a setting accept; `threads` every engine has."""


def whole(settings: Dict[str, Any], name: str) -> int:
    """A setting that counts: 1 where it is missing. Raises LoadFailed."""
    value = settings.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise LoadFailed("%s is %r; it must be a whole number of at least 1" % (name, value))
    return value


def one_of(settings: Dict[str, Any], name: str, allowed: Sequence[str]) -> str:
    """A setting of few values, the first of which is the default. Raises LoadFailed."""
    value = settings.get(name) or allowed[0]
    if value not in allowed:
        raise LoadFailed("%s is %r; allowed: %s" % (name, value, ", ".join(repr(one) for one in allowed)))
    return str(value)


def only(runtime: str, settings: Dict[str, Any], obeyed: Iterable[str] = ()) -> None:
    """Refuse settings that the runtime does not have and that are not at their default. Raises LoadFailed."""
    for name in sorted(set(DEFAULTS) - set(obeyed)):
        value = settings.get(name, DEFAULTS[name])
        if value != DEFAULTS[name]:
            raise LoadFailed("%s has no setting %s, which is %r; leave it out" % (runtime, name, value))
