"""``python -m paddle_cait``."""

import sys

from paddle_cait.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
