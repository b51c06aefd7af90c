"""Releases of a fleet on a board: reading their manifests, judging whether they fit, and changing to them safely."""
