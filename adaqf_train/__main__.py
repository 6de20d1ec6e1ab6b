"""`python -m adaqf_train …`, `accelerate launch -m adaqf_train …` and `adaqf …` are the same command."""

import sys

from adaqf_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
