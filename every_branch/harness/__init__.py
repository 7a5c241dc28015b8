"""The plumbing of every branch: what there is to learn is in model.py and train.py."""

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    print(f"This needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parents[1]  # of the branch
