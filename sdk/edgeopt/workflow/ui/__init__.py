"""The local page: what this computer knows of runs, devices and rollouts, served to its own browser alone."""
