"""Conformance suites for authors of passes, targets and engines."""
