"""Runs a script that knows nothing of AdaCLIP, with AdaCLIP in the place of CLIP.

    python -m adaclip.launch --weights ADAPTER [options] script.py [arguments …]
    python -m adaclip.launch --weights ADAPTER [options] -m package.module [arguments …]

While it runs, in this process only: `import clip` gives AdaCLIP under the surface of OpenAI's package (which need not
be installed), and transformers' `from_pretrained("…clip-vit-base-patch32")`, a Hub id or a local path, loads AdaCLIP,
adapter merged. The first use of each is reported on stderr. Processes that the script starts are not affected; for
several processes launch each so: `torchrun … -m adaclip.launch --weights ADAPTER script.py …`.

The encoder is frozen. Checkpoints of models that hold it record which it was (`adaclip.fingerprint`), and do not load
under another.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip.config import AdaCLIPError
from adaclip.replacement import replaced, say
from adaclip.seam import replaced as seam_replaced

if TYPE_CHECKING:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; `arguments` as in sys.argv[1:]. The script's own exit status is this command's."""
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    if options.module is None and not Path(options.target).is_file():
        raise SystemExit(f"adaclip.launch: {options.target}: no such script. Give a file, or a module after -m.")
    from adaclip.model import AdaCLIP

    try:
        adaclip = AdaCLIP.from_pretrained(options.weights, base=options.base)
    except AdaCLIPError as error:
        raise SystemExit(f"adaclip.launch: {error}") from error
    with ExitStack() as undo:
        if options.compat:
            from adaclip.compat import compatible

            undo.enter_context(compatible())
        undo.enter_context(_environment(_settings(options)))
        replacement = undo.enter_context(replaced(adaclip, options.weights))
        try:
            run(
                options.target,
                options.arguments,
                module=options.module is not None,
                seams=dict.fromkeys(options.seam, replacement.make),
            )
        finally:
            if not replacement.reported:
                say("nothing was replaced: the script loaded no CLIP that this command serves")


def run(
    target: str,
    arguments: Sequence[str],
    *,
    module: bool = False,
    seams: Mapping[str, Callable[..., object]] | None = None,
) -> None:
    """Runs a script, or with `module` a module, as `python` would: sys.argv, sys.path, `__main__`.

    seams: module:attribute -> what takes its place while the script runs.
    """
    argv, path = sys.argv[:], sys.path[:]
    sys.argv[:] = [target, *arguments]
    sys.path.insert(0, os.getcwd() if module else str(Path(target).resolve().parent))
    try:
        with ExitStack() as undo:
            for seam, make in (seams or {}).items():
                try:
                    undo.enter_context(seam_replaced(seam, make))
                except AdaCLIPError as error:
                    raise SystemExit(f"adaclip.launch: {error}") from error
            if module:
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(target, run_name="__main__")
    finally:
        sys.argv[:], sys.path[:] = argv, path


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Options up to the script or module; everything behind it is the script's."""
    parser = argparse.ArgumentParser(
        prog="python -m adaclip.launch",
        description="Run an unmodified script with AdaCLIP in the place of CLIP.",
        usage="%(prog)s --weights ADAPTER [options] (script.py | -m module) [arguments …]",
    )
    parser.add_argument("--weights", required=True, metavar="ADAPTER", help="folder or Hub id of the adapter")
    parser.add_argument("--base", metavar="BASE", help="base to use instead of the recorded one")
    parser.add_argument(
        "--seam",
        action="append",
        default=[],
        metavar="MODULE:ATTRIBUTE",
        help="class or function of the script's code that makes its text encoder: AdaCLIP takes its place. Repeatable",
    )
    parser.add_argument(
        "--compat",
        action="store_true",
        help="stand in for what current packages no longer have and old code asks for (adaclip.compat)",
    )
    parser.add_argument(
        "--allow-other-encoder",
        action="store_true",
        help="load checkpoints also when they were trained with another text encoder",
    )
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    parser.add_argument("target", nargs="?", metavar="script.py")
    mine = 0
    while mine < len(arguments) and arguments[mine].startswith("-"):
        option = arguments[mine]
        mine += 2 if option in ("--weights", "--base", "--seam", "-m") else 1
        if option.startswith("-m"):  # like Python's, the last option of one's own
            break
    else:
        mine += 1
    options = parser.parse_args(arguments[:mine])
    options.arguments = arguments[mine:]
    options.target = options.module if options.module is not None else options.target
    if options.target is None:
        parser.error("which script? Give its path, or a module after -m")
    return options


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """What a codebase that was patched (`adaclip_integrations`) reads: the launcher's word goes before its own."""
    from adaclip.fingerprint import OVERRIDE

    settings = {"ADACLIP_WEIGHTS": options.weights}
    if options.base is not None:
        settings["ADACLIP_BASE"] = options.base
    if options.allow_other_encoder:
        settings[OVERRIDE] = "1"
    return settings


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if __name__ == "__main__":
    main()
