"""`paddle-cait app` from a checkout; see `python tools/app.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddle_cait.cli.main import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("app"))
