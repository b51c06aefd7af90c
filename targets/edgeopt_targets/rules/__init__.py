"""Rules: what cannot work on a device is refused before anything is sent there, each with its name and source."""
