"""The verbs of `adaqf`; each class is one verb and its options, each module a family of verbs.

Verbs import torch and everything built on it when they run, so that help appears at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from adaclip import AdaCLIPError
from adaclip._startup import limit_spinning
from adaclip.files import failure_line, out_of_memory
from adaqf_train.cli.bench import Bench
from adaqf_train.cli.data import Doctor
from adaqf_train.cli.encoders import Encoders
from adaqf_train.cli.motions import Convert, Sample
from adaqf_train.cli.package import Package
from adaqf_train.cli.plans import PlanVerb
from adaqf_train.cli.prepare import Prepare
from adaqf_train.cli.probe import ProbeVerb
from adaqf_train.cli.publish import Push
from adaqf_train.cli.scores import Compare, Evaluate, Retrieval
from adaqf_train.cli.stages import BaseVerb, Demo, EvaluatorVerb, ExtractorsVerb, PipelineVerb, Train
from adaqf_train.cli.study import StudyVerb
from adaqf_train.cli.ui import Ui
from adaqf_train.cli.userstudy import UserStudy
from adaqf_train.errors import AdaQFError, TrainingStopped, lost_process

VERBS: dict[str, type[Callable[[], int | None]]] = {
    "demo": Demo,
    "prepare": Prepare,
    "doctor": Doctor,
    "plan": PlanVerb,
    "bench": Bench,
    "base": BaseVerb,
    "extractors": ExtractorsVerb,
    "evaluator": EvaluatorVerb,
    "train": Train,
    "probe": ProbeVerb,
    "evaluate": Evaluate,
    "retrieval": Retrieval,
    "encoders": Encoders,
    "compare": Compare,
    "sample": Sample,
    "convert": Convert,
    "push": Push,
    "package": Package,
    "pipeline": PipelineVerb,
    "study": StudyVerb,
    "userstudy": UserStudy,
    "ui": Ui,
}
DESCRIPTION = (
    "AdaQF: captioned motions in, a motion-aware text encoder and a generator out. Without a verb, adaqf runs the demo."
)


LOST = (
    "Another process of this command ended ({reason}). Its own message, if there is one, says why. Run the same "
    "command again: training continues from the newest checkpoint."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 1 for bad input, 130 when interrupted; verbs may have others."""
    limit_spinning()
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        verb = parse(list(sys.argv[1:] if arguments is None else arguments) or ["demo"])
        _quiet_libraries()
        return verb() or 0
    except (AdaQFError, AdaCLIPError, OSError, MemoryError, RuntimeError) as error:
        known = isinstance(error, AdaQFError | AdaCLIPError | OSError) or out_of_memory(error)
        if not known and not lost_process(error):
            raise
        # Other processes report too: data that only their node lacks would otherwise be an error without a message.
        whose = "" if main_process else f" (process {os.environ['RANK']})"
        line = failure_line(error) if known else LOST.format(reason=lost_process(error))
        first, *others = getattr(error, "lines", (line,))  # one line for each fault of several files
        print("\n  ".join([f"error{whose}: {' '.join(first.split())}", *others]), file=sys.stderr)
        return 1
    except TrainingStopped as stopped:
        if main_process:
            print(stopped, file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command continues from there", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> Any:
    """The verb that a command line asks for, with its options; exits on --help and on a wrong command line."""
    name, *rest = arguments
    if name not in VERBS:  # --help, or no verb of ours
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="adaqf", description=DESCRIPTION, args=arguments)
    # Only the verb in question is built: its settings make a parser of more than a hundred flags.
    verb = VERBS[name]
    default = verb.start(rest) if hasattr(verb, "start") else None
    return tyro.cli(verb, prog=f"adaqf {name}", args=rest, default=default)


def _quiet_libraries() -> None:
    """Keeps progress bars of libraries off the screen: loading and writing models of a megabyte needs none."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers warns about an attribute that peft reads; a user cannot do anything about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
