"""The command `adaclip-run`: runs a script as it is, with AdaCLIP in the place of the CLIP that it loads.

    adaclip-run --weights ADAPTER [options] script.py [arguments …]
    adaclip-run --weights ADAPTER [options] -m package.module [arguments …]
    adaclip-run --compat script.py [arguments …]

While the script runs, `import clip` gives AdaCLIP with the interface of OpenAI's package (which need not be installed),
and transformers' `from_pretrained("…clip-vit-base-patch32")`, a Hub id or a local path, loads AdaCLIP with the adapter
merged. Another CLIP than the adapter's stops the script, unless an evaluation network loads it. Workers that Python's
multiprocessing starts are covered; other programs that the script starts are not. To launch several processes, use
`torchrun … -m adaclip_integrations.launch --weights ADAPTER script.py …`.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from adaclip._startup import limit_spinning

limit_spinning()  # before the imports below load torch

from adaclip_integrations import (  # noqa: E402
    IntegrationError,
    patches,
    selection,
)
from adaclip_integrations.fingerprint import OVERRIDE  # noqa: E402
from adaclip_integrations.replacement import COMMAND  # noqa: E402
from adaclip_integrations.workers import Setup, reached, set_up  # noqa: E402

from adaclip.config import AdaCLIPError  # noqa: E402

_TAKE_A_VALUE = ("--weights", "--base", "--seam", "--keep", "--as", "-m")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; the script's exit status becomes this command's."""
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    if options.module is None and not Path(options.target).is_file():
        raise SystemExit(f"{COMMAND}: {options.target}: no such script. Give a file, or a module after -m.")
    with ExitStack() as undo:
        try:
            _prepare(options, undo)
        except AdaCLIPError as error:
            raise SystemExit(f"{COMMAND}: {error}") from error
        if options.module is not None:
            runpy.run_module(options.target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(options.target, run_name="__main__")


def command() -> None:
    """Run the command; if the encoder cannot take its place, print one line and exit with 1."""
    try:
        main()
    except IntegrationError as error:
        raise SystemExit(f"{COMMAND}: {' '.join(str(error).split())}") from error


def _prepare(options: argparse.Namespace, undo: ExitStack) -> None:
    """Set up the process for the script, until `undo` closes."""
    # For codebases with edits: the command's options have priority over the edits and the environment.
    settings = {selection.WEIGHTS: options.weights, selection.BASE: options.base}
    settings[OVERRIDE] = "1" if options.allow_other_encoder else None
    given = {name: value for name, value in settings.items() if value is not None}
    undo.enter_context(patches.entries(os.environ, given))
    folder = os.getcwd() if options.module is not None else str(Path(options.target).resolve().parent)
    undo.enter_context(patches.attribute(sys, "argv", [options.target, *options.arguments]))
    undo.enter_context(patches.attribute(sys, "path", [folder, *sys.path]))  # as `python` does
    lists = (tuple(values) for values in (options.seam, options.keep, options.aliases))
    setup = Setup(options.weights, options.base, *lists, options.compat, options.cpu)
    set_up(setup, undo)
    undo.enter_context(reached(setup))


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the options before the script or module; all arguments behind it belong to the script."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Run a script as it is, with AdaCLIP in the place of the CLIP that it loads.",
        usage="%(prog)s (--weights ADAPTER | --compat) [options] (script.py | -m module) [arguments …]",
    )
    add = parser.add_argument
    add("--weights", metavar="ADAPTER", help="folder or Hub id of the adapter; none: the script keeps its own encoder")
    add("--base", metavar="BASE", help="base to use instead of the recorded one")
    seam = "class or function of the script's code that makes its text encoder; AdaCLIP takes its place. Repeatable"
    add("--seam", action="append", default=[], metavar="MODULE:ATTRIBUTE", help=seam)
    keep = "files whose CLIP stays as it is, such as 'utils/judge.py'; evaluation networks keep theirs. Repeatable"
    add("--keep", action="append", default=[], metavar="PATTERN", help=keep)
    alias = "another name or path under which the script loads the CLIP that AdaCLIP takes the place of. Repeatable"
    add("--as", action="append", default=[], dest="aliases", metavar="NAME", help=alias)
    add("--cpu", action="store_true", help="run code that was written for CUDA on the CPU, if there is no GPU")
    add("--compat", action="store_true", help="supply what old code expects of packages and current ones have dropped")
    override = "load checkpoints even if they were trained with another text encoder"
    add("--allow-other-encoder", action="store_true", help=override)
    add("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    add("target", nargs="?", metavar="script.py")
    own = 0
    while own < len(arguments) and arguments[own].startswith("-"):
        option = arguments[own]
        own += 2 if option in _TAKE_A_VALUE else 1
        if option.startswith("-m"):  # as for python, the last option before the program's own arguments
            break
    else:
        own += 1
    options = parser.parse_args(arguments[:own])
    options.arguments, options.target = arguments[own:], options.target if options.module is None else options.module
    if options.target is None:
        parser.error("no script. Give its path, or a module after -m")
    if options.weights is None and not (options.compat or options.cpu):
        parser.error("give --weights ADAPTER, or --compat to run the script with its own encoder")
    if options.weights == selection.VANILLA:
        parser.error("to run the script with its own encoder, leave --weights out and give --compat")
    if options.weights is None and (options.seam or options.base or options.keep or options.aliases):
        parser.error("--seam, --base, --keep and --as need --weights ADAPTER")
    return options


if __name__ == "__main__":
    command()
