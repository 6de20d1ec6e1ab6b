"""Put AdaCLIP into a checkout of MDM, MoMask or SALAD by small marked edits, and remove it again.

python -m adaclip_integrations momask PATH --weights ADAPTER
python -m adaclip_integrations momask PATH --check
python -m adaclip_integrations momask PATH --revert
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from adaclip_integrations.selection import WEIGHTS

from adaclip.config import AdaCLIPError

CODEBASES = ("mdm", "momask", "salad")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error message of one line. A wrong command line exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m adaclip_integrations", description=__doc__.partition("\n")[0])
    parser.add_argument("codebase", choices=CODEBASES)
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the checkout")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--weights", metavar="ADAPTER", help="folder or Hub id of the adapter; it is not opened")
    action.add_argument("--check", action="store_true", help="show the state of the files; exit code 1: unknown")
    action.add_argument("--revert", action="store_true", help="undo the edits")
    options = parser.parse_args(arguments)
    codebase = importlib.import_module(f"adaclip_integrations.{options.codebase}")
    try:
        if options.check:
            for file, state in codebase.check(options.path).items():
                print(f"{file}: {state}")
        elif options.revert:
            _report(codebase.revert(options.path), "reverted", "no edits were there")
        else:
            weights = located(options.weights)
            _report(codebase.apply(options.path, weights), "edited", "the edits are there already")
            print(f"Runs with {weights}. {WEIGHTS}=… selects another adapter, {WEIGHTS}=vanilla the codebase's CLIP.")
    except (AdaCLIPError, OSError) as error:
        print(f"adaclip_integrations: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def located(weights: str) -> str:
    """Return a location that is valid in any working directory: a folder's whole path, a Hub id as it is.

    A folder need not exist yet if it is written as one: it starts with ./, ../, ~ or a root, or has several slashes.
    """
    path = Path(weights).expanduser()
    written_as_folder = path.is_absolute() or weights.startswith((".", "~")) or len(path.parts) > 2
    return str(path.resolve()) if written_as_folder or path.exists() else weights


def _report(changed: Sequence[str], done: str, nothing: str) -> None:
    print("\n".join(f"{file}: {done}" for file in changed) or nothing)


if __name__ == "__main__":
    sys.exit(main())
