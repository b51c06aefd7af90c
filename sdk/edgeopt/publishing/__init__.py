"""Release trees at a URL, for boards that pull."""
