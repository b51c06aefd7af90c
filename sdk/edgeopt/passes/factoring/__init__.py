"""Layers as products of smaller ones: factors, ranks, and the graph with them in it."""
