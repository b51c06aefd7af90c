"""Pruning: groups of channels, heads, blocks, features, sparsity, and what tells their importance."""
