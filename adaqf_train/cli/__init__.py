"""The verbs of `adaqf`; each class is one verb and its options, each module a family of verbs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import tyro

from adaclip import AdaCLIPError
from adaqf_train.cli.data import Doctor
from adaqf_train.cli.motions import Convert, Sample
from adaqf_train.cli.plans import PlanVerb
from adaqf_train.cli.prepare import Prepare
from adaqf_train.cli.publish import Push
from adaqf_train.cli.scores import Compare, Evaluate, Retrieval
from adaqf_train.cli.stages import BaseVerb, Demo, EvaluatorVerb, ExtractorsVerb, PipelineVerb, Train
from adaqf_train.cli.study import StudyVerb
from adaqf_train.cli.ui import Ui
from adaqf_train.cli.userstudy import UserStudy
from adaqf_train.errors import AdaQFError, TrainingStopped

Verb = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[PlanVerb, tyro.conf.subcommand("plan")]
    | Annotated[BaseVerb, tyro.conf.subcommand("base")]
    | Annotated[ExtractorsVerb, tyro.conf.subcommand("extractors")]
    | Annotated[EvaluatorVerb, tyro.conf.subcommand("evaluator")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Retrieval, tyro.conf.subcommand("retrieval")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Push, tyro.conf.subcommand("push")]
    | Annotated[PipelineVerb, tyro.conf.subcommand("pipeline")]
    | Annotated[StudyVerb, tyro.conf.subcommand("study")]
    | Annotated[UserStudy, tyro.conf.subcommand("userstudy")]
    | Annotated[Ui, tyro.conf.subcommand("ui")]
)


DESCRIPTION = "AdaQF: captioned motions in, a motion-aware text encoder and a generator out."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code. Bad input is one line on stderr and 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb = tyro.cli(Verb, args=arguments or ["demo"], prog="adaqf", description=DESCRIPTION)
    _quiet_libraries()
    try:
        return verb() or 0
    except (AdaQFError, AdaCLIPError, OSError) as error:
        rank = os.environ.get("RANK", "0")  # another process may be alone with its error: data that its node has not
        print(f"error{'' if rank == '0' else f' (process {rank})'}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except TrainingStopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(stopped, file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        return 130


def _quiet_libraries() -> None:
    """Leaves the screen to our own progress: models of a megabyte need no bars for loading and writing."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers warns about an attribute that peft reads; there is nothing a user could do about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
