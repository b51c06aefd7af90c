"""The pull agent: asks a static store what this board should run, and updates by the same transaction as a push.

Nothing that a store sends is believed: metadata go through `edgeopt_runner.trust`, files through their signed digests
and sizes. Standard library only; Python >= 3.6.
"""

import re

FOLDER = "agent"
"""Folder below the root: settings, state, queued reports, lock."""

NETWORK = "network"
"""The store could not be reached or broke off: worth another try."""

STORE_REFUSED = "store_refused"
"""The store answered that it does not have or give the file (4xx), or answers what no store may: no other try now."""

FILES = re.compile(r"(agent\.json|ca\.pem|state\.json|hardware\.json|device\.key)(\.[0-9]+\.tmp)?\Z|(lock|mender)\Z")
"""Files that are ours in the folder."""
