"""Statistics, the budget, the Pareto front and the decision; no I/O."""
