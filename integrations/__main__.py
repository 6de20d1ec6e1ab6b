"""Put AdaCLIP into a checkout of a text-to-motion codebase by small marked edits, and remove it again.

python -m adaclip_integrations momask PATH --weights ADAPTER
python -m adaclip_integrations momask PATH --check
python -m adaclip_integrations momask PATH --revert
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adaclip_integrations import SeamError
from adaclip_integrations.codebases import NAMES, codebase, recognised
from adaclip_integrations.selection import VANILLA, WEIGHTS

from adaclip.config import AdaCLIPError

CODEBASES = NAMES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error message of one line. A wrong command line exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m adaclip_integrations", description=__doc__.partition("\n")[0])
    parser.add_argument("codebase", choices=CODEBASES)
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the checkout")
    action = parser.add_mutually_exclusive_group(required=True)
    weights = "folder or Hub id (OWNER/NAME) of the adapter; it is not opened. A folder that is not there yet: ./NAME"
    action.add_argument("--weights", metavar="ADAPTER", help=weights)
    action.add_argument("--check", action="store_true", help="show the state of the files; exit code 1: unknown")
    action.add_argument("--revert", action="store_true", help="undo the edits")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (AdaCLIPError, OSError) as error:
        print(f"adaclip_integrations: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    chosen = codebase(options.codebase)
    if options.revert:
        _report(chosen.revert(options.path), "reverted", "no edits were there")
        return
    weights = located(options.weights) if options.weights is not None else None
    try:
        if weights is None:
            for file, state in chosen.check(options.path).items():
                print(f"{file}: {state}")
        else:
            _report(chosen.apply(options.path, weights), "edited", "the edits are there already")
            print(f"Runs with {weights}. {WEIGHTS}=… selects another adapter, {WEIGHTS}={VANILLA} the codebase's CLIP.")
    except SeamError as error:
        others = [name for name in recognised(options.path) if name != options.codebase]
        if others:
            raise SeamError(f"{error} This looks like a checkout of {' or '.join(others)}.") from error
        raise


def located(weights: str) -> str:
    """Return a location that is valid in any working directory: a folder's whole path, a Hub id as it is.

    A folder need not exist yet if it is written as one: it starts with ./, ../, ~ or a root, or has several slashes.
    Raises SeamError for a name that is neither a folder nor a Hub id.
    """
    path = Path(weights).expanduser()
    written_as_folder = path.is_absolute() or weights.startswith((".", "~")) or len(path.parts) > 2
    if written_as_folder or path.exists():
        return str(path.resolve())
    if weights != VANILLA and len(path.parts) != 2:
        raise SeamError(
            f"--weights {weights}: there is no such folder, and a Hub id has the form OWNER/NAME. Write ./{weights} "
            "for a folder that is not there yet."
        )
    if weights != VANILLA:
        print(f"{weights} is taken for a Hub id, because there is no such folder here. Write ./{weights} for a folder.")
    return weights


def _report(changed: Sequence[str], done: str, nothing: str) -> None:
    print("\n".join(f"{file}: {done}" for file in changed) or nothing)


if __name__ == "__main__":
    sys.exit(main())
