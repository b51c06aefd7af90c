"""What is kept: artifacts by digest, and the ledger of everything measured."""
