"""edgeopt: compress a trained network for a board, measure it there, choose, and keep the winner active.

Importing this package loads no heavy library; the public verbs live in `edgeopt.workflow`.
"""

__version__ = "0.1.0"
