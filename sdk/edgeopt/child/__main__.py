"""Entry of a child in a fresh interpreter: ``python -m edgeopt.child FOLDER``."""

import sys
from pathlib import Path

from edgeopt.child.job import run_job

sys.exit(run_job(Path(sys.argv[1])))
