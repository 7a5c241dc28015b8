"""The plumbing of every branch: what there is to learn is in model.py and train.py."""

import os
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    print(f"This needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
    sys.exit(2)

# A thread that waits for another spins, and so takes the time that the other needs where a busy
# program shares the processor. How long is read when torch is loaded: this package comes first.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # Linux: rounds of a loop, not 300,000
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # macOS, Windows: milliseconds, not 200

ROOT = Path(__file__).resolve().parents[1]  # of the branch
