"""Several boards in one run: boards of one kind share the work, and each kind gets its own winner, or all get one."""
