"""The board's own check of signed metadata: The Update Framework with the standard library, on any Python from 3.6.

Not python-tuf: it needs Python 3.10 and packages that boards do not have. Tests hold this to it on hostile trees.

* `ed25519`, `canonical`, `metadata`: signatures, the bytes that they are over, and strict parsing.
* `chain`: the client workflow of the specification as pure functions.
* `freshness`: what replaces a clock: a nonce of the board's, signed with the time by the host.
* `state`: the folder ``<root>/trust``. `verbs`: ``trust``, ``enrol``, ``trust_update``. `pulling`: the same from files
  at a URL. `targets`: what the rest of the runner asks.
"""
