"""`adaqf …`, `python -m adaqf_train …` and `accelerate launch -m adaqf_train …` are the same command."""

import sys

from adaqf_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
