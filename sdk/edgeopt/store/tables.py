"""The tables of the ledger. Nouns are kept as their JSON text beside the columns that are searched."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = 1
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
