"""Trains torch networks: schedules, optimisers, losses, checkpoints; shared by every pass that trains."""
