"""The command `adaqf` as a script: `accelerate launch adaqf_train/run.py [verb] …`; without a verb it runs the demo."""

import sys
from pathlib import Path

# Python puts the folder of a script first on the path, where our `config` or `data` would hide modules that other
# packages import by those names. The checkout itself takes its place.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

from adaqf_train.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
