"""`python -m adaclip` is the command `adaclip`."""

import sys

from adaclip.cli import main

if __name__ == "__main__":
    sys.exit(main())
