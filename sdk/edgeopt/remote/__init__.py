"""Reaching devices: transports, host keys, the runner's bundle and its client."""
