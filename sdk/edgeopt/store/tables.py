"""The tables of the ledger. Nouns are kept as their JSON text beside the columns that are searched."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 4
"""Raised whenever a table changes; a ledger with a higher number was written by a newer edgeopt."""

metadata = MetaData()

schema = Table("edgeopt_schema", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("command_key", String(64), nullable=False, index=True),
    Column("command", Text, nullable=False),
    Column("owner", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float, nullable=False, default=0.0),
    Column("model", Text, nullable=False, default=""),
    Column("device", Text, nullable=False, default=""),
    Column("winner", Text),
    Column("record", Text),
)

variants = Table(
    "variants",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("document", Text, nullable=False),
)

measurements = Table(
    "measurements",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("launch", Integer, primary_key=True, autoincrement=False),
    Column("variant_digest", String(64), nullable=False),
    Column("document", Text, nullable=False),
)

observations = Table(
    "observations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("document", Text, nullable=False),
)
"""What measurements say to a predictor, short enough to read thousands of."""

studies = Table(
    "studies",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("source", String(64), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("document", Text, nullable=False),
)

study_trials = Table(
    "study_trials",
    metadata,
    Column("study", String(64), ForeignKey("studies.key"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("point", String(64), nullable=False),
    Column("owner", String(256), nullable=False),
    Column("beat_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("study", "point"),
)
"""A trial without an owner is at its end."""

devices = Table(
    "devices",
    metadata,
    Column("fingerprint", String(128), primary_key=True),
    Column("noise", Float, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run_id", String(64), ForeignKey("runs.run_id"), nullable=False),
    Column("device", Text, nullable=False, index=True),
    Column("document", Text, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_id", String(16), primary_key=True),
    Column("app", String(64), nullable=False, index=True),
    Column("release", String(160), nullable=False),
    Column("key", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float, nullable=False),
    Column("wave_since", Float, nullable=False),
    Column("soak_until", Float, nullable=False),
    Column("order", String(16), nullable=False),
    Column("ordered_by", String(256), nullable=False),
    Column("plan", Text, nullable=False),
)

rollout_boards = Table(
    "rollout_boards",
    metadata,
    Column("rollout_id", String(16), ForeignKey("rollouts.rollout_id"), primary_key=True),
    Column("board", String(128), primary_key=True, index=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("document", Text, nullable=False),
)

rollout_gates = Table(
    "rollout_gates",
    metadata,
    Column("rollout_id", String(16), ForeignKey("rollouts.rollout_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
)

rollout_leases = Table(
    "rollout_leases",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("rollout_id", String(16), nullable=False),
    Column("holder", String(256), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("since", Float, nullable=False),
    Column("expires", Float, nullable=False),
)
"""One driver of an app at a time, over all of its rollouts: boards keep one fence for the app."""
