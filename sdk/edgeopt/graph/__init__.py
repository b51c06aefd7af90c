"""Networks and data on the host: sources, export, inspection, parity, samples."""
