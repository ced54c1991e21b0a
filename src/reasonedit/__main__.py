"""``python -m reasonedit``: the command line."""

import sys

from reasonedit.cli import main

if __name__ == "__main__":
    sys.exit(main())
