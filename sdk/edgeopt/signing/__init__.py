"""Keys and signed metadata of releases: a TUF repository on disk, made with python-tuf."""
