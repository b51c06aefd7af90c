"""Keepers of experiments that a run may be told to beside the ledger; the ledger stays what is true."""
