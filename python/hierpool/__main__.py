"""``python -m hierpool``."""

import sys

from hierpool.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
