"""Quantisation: calibrators, ranges, rankings, grids of low precision, rounding, and how few bits are stored."""
