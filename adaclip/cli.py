"""The command `adaclip`: encode prompts, search captions, and inspect, compare, export and publish adapters."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adaclip import exports
from adaclip._startup import limit_spinning
from adaclip.config import DEFAULT_BASE, AdaCLIPError
from adaclip.files import failure_line, out_of_memory

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP

TRACEBACK = "ADACLIP_TRACEBACK"  # environment: show where an unexpected error happened
# Prompts that differ in what a still image cannot show.
PAIRS = Path(__file__).with_name("prompt_pairs.tsv")


@dataclass(frozen=True, kw_only=True)
class _OfAdapter:
    """Options of every verb that takes one adapter."""

    adapter: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ADAPTER")]
    """Folder or Hub id of the adapter."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    subfolder: str = ""
    """Folder of the adapter in the repository or folder."""


@dataclass(frozen=True, kw_only=True)
class _Loading(_OfAdapter):
    """Options of every verb that loads the encoder."""

    base: str | None = None
    """Folder or Hub id of the base to use instead of the recorded one."""
    device: str = "cpu"
    """Device, such as cuda."""

    def load(self) -> AdaCLIP:
        from adaclip.model import AdaCLIP

        _quiet_libraries()
        return AdaCLIP.from_pretrained(
            self.adapter, base=self.base, revision=self.revision, subfolder=self.subfolder, device=self.device
        )


@dataclass(frozen=True, kw_only=True)
class Encode(_Loading):
    """Encode prompts from the command line, a file or standard input (one prompt per line)."""

    prompts: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPTS")] = ()
    """Prompts; by default they are read from --file or standard input."""
    file: Path | None = None
    """Text file with one prompt per line; a blank line is an empty prompt."""
    out: Path | None = None
    """.npy (pooled vectors), .safetensors (everything, and the prompts) or .jsonl; by default JSON lines on stdout."""
    force: bool = False
    """Replace a file that is not an earlier result, or lies in a model's folder."""
    output: Literal["pooled", "both"] = "pooled"
    """both adds token states and their mask (.safetensors only)."""
    normalize: bool = False
    """Scale vectors to unit length."""
    batch_size: int = 64
    """Largest number of prompts per pass."""
    long: Literal["warn", "error", "chunk"] = "warn"
    """Treatment of prompts over the encoder's limit: cut with a warning, error, or several pieces."""
    strength: float = 1.0
    """Factor of the adapter's change of every weight; 0 gives the base."""

    def __call__(self) -> None:
        from adaclip import outputs

        kind = ".jsonl" if self.out is None else self.out.suffix
        if kind not in outputs.VECTORS:
            raise ValueError(
                f"{self.out}: cannot write {kind or 'a file without ending'}; use .npy, .safetensors, .jsonl."
            )
        if self.output == "both" and kind != ".safetensors":
            raise ValueError("Token states need a .safetensors file: --out FILE.safetensors")
        if self.prompts and self.file:
            raise ValueError("Give prompts on the command line or with --file, not both.")
        if self.out is None and sys.stdout is None:
            raise ValueError("Standard output is closed: give --out FILE.")
        prompts = list(self.prompts) or outputs.read_lines(self.file)
        if not prompts:
            raise ValueError(f"{self.file or 'standard input'}: no prompts found. Write one prompt per line.")
        encoder = self.load()
        if self.out is not None:
            out = outputs.free_output(self.out, force=self.force, width=encoder.projection_size)
        options = {"output": self.output, "batch_size": self.batch_size, "normalize": self.normalize}
        encoded = encoder.encode(prompts, **options, long=self.long, strength=self.strength)
        tensors = {"pooled": encoded} if self.output == "pooled" else encoded._asdict()
        if self.out is None:
            sys.stdout.writelines(outputs.json_lines(prompts, tensors["pooled"]))
            return
        outputs.write_vectors(out, prompts, tensors)
        print(f"{len(prompts)} prompts, {tensors['pooled'].shape[1]} numbers each, in {self.out}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Search(_Loading):
    """Search a folder of motions by text: the clips whose captions are most similar."""

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT")]
    """What to look for."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of caption files (NAME.txt, one caption per line), or a data folder with texts/."""
    top: int = 10
    """Largest number of clips."""
    json: bool = False
    """Print JSON: a list of score, clip, text, start and end (seconds)."""

    def __call__(self) -> None:
        from adaclip.outputs import json_line
        from adaclip.search import read_captions, search

        captions = read_captions(self.folder)
        matches = search(self.load(), self.text, captions, self.top)
        if self.json:
            print(json_line([match.as_dict() for match in matches]), end="")
            return
        width = max(len(match.caption.clip) for match in matches)
        for match in matches:
            print(f"{match.score:6.3f}  {match.caption.clip:<{width}}  {match.caption.text}")


@dataclass(frozen=True, kw_only=True)
class Info(_OfAdapter):
    """Show base, rank, tensors, size, licence and metrics of an adapter, without loading a model."""

    def __call__(self) -> None:
        from adaclip.inspection import describe

        for name, value in describe(self.adapter, self.revision, self.subfolder).items():
            print(f"{name:<11} {value}")


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare prompt similarities under the base and each adapter, and how much of the base's geometry each keeps."""

    adapters: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ADAPTERS")]
    """Folders or Hub ids of adapters of the same base."""
    base: str | None = None
    """Folder or Hub id of the base to use instead of the recorded one."""
    file: Path | None = None
    """Text file with one pair per line, separated by a tab; by default a list of seven."""

    def __call__(self) -> None:
        from adaclip.inspection import compare

        if not self.adapters:
            raise ValueError("Name at least one adapter to compare with its base.")
        pairs = _pairs(self.file or PAIRS)
        _quiet_libraries()
        print(compare(self.adapters, pairs, base=self.base))


@dataclass(frozen=True, kw_only=True)
class Export(_Loading):
    """Write the encoder, with the adapter merged, in another program's format."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """File or folder to write."""
    to: Annotated[str, tyro.conf.arg(help=f"Format: {', '.join(exports.FORMATS)}.")] = "hf"
    force: bool = False
    """Replace a file that is not an earlier export, or lies in a model's folder."""
    precision: Literal["float32", "float16", "int8"] | None = None
    """Precision of an ONNX model's weights; float32 by default."""
    ids: Literal["int64", "int32"] | None = None
    """Type of an ONNX model's inputs; int64 by default."""

    def __call__(self) -> None:
        from adaclip.outputs import free_output

        out = self.out.expanduser()
        if out.is_file() or out.is_symlink():
            out = free_output(out, force=self.force)
        options = {name: value for name in ("precision", "ids") if (value := getattr(self, name)) is not None}
        exports.write(self.load(), out, self.to, force=self.force, **options)
        print(f"{self.out}: {self.adapter} as {self.to}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Push(_Loading):
    """Publish an adapter on the Hugging Face Hub, with its base if that is a local folder."""

    repo_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    """Repository (owner/name); it is created if necessary."""
    to_subfolder: str = ""
    """Folder in the repository."""
    branch: str | None = None
    """Branch to push to; main by default."""
    private: bool = False
    """Make a new repository private."""
    token: str | None = field(default=None, repr=False)
    """Access token; by default that of `hf auth login`."""
    license: str | None = None
    """Licence as the Hub names it, such as cc-by-nc-4.0; by default the one that the adapter records."""
    dataset: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Data set of the training. Repeatable."""
    metric: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Metric on the first data set as NAME=VALUE, such as fid=0.1. Repeatable."""

    def __call__(self) -> None:
        from adaclip.card import CardDetails

        encoder = self.load()
        old = encoder.details
        metrics = dict(map(_metric, self.metric)) or old.metrics
        details = CardDetails(self.license or old.license, self.dataset or old.datasets, metrics)
        address = encoder.push_to_hub(
            self.repo_id,
            details=details,
            subfolder=self.to_subfolder,
            token=self.token,
            private=self.private or None,
            revision=self.branch,
        )
        print(address)


VERBS = {"encode": Encode, "search": Search, "info": Info, "compare": Compare, "export": Export, "push": Push}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error message of one line. A wrong command line exits with 2."""
    limit_spinning()
    try:
        verb = tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="adaclip", description=f"{__doc__} The usual base is {DEFAULT_BASE}.", args=arguments
        )
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(message)
            verb()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, so that a full disk or a reader that left is noticed
    except BrokenPipeError:  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141  # as a shell reports SIGPIPE
    except (AdaCLIPError, ValueError, OSError, ImportError) as error:
        _say(failure_line(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Exception as error:
        if out_of_memory(error):
            _say(failure_line(error))
            return 1
        if os.environ.get(TRACEBACK):
            raise
        _say(f"{type(error).__name__}: {error}. Please report this; {TRACEBACK}=1 shows where it happened.")
        return 1
    return 0


def _say(message: object) -> None:
    """Print a message in one line on standard error."""
    print(f"adaclip: {' '.join(str(message).split())}", file=sys.stderr)


def _pairs(file: Path) -> list[tuple[str, ...]]:
    from adaclip.outputs import read_lines

    pairs = []
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        pairs.append(tuple(part.strip() for part in line.split("\t")))
        if len(pairs[-1]) != 2 or not all(pairs[-1]):
            raise ValueError(f"{file}, line {number}: expected two prompts separated by a tab.")
    if not pairs:
        raise ValueError(f"{file}: no pairs found. Write two prompts per line, separated by a tab.")
    return pairs


def _metric(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not (name and equals and math.isfinite(float(value))):
            raise ValueError
        return name, float(value)
    except ValueError:
        raise ValueError(f"--metric {text}: expected NAME=NUMBER, a finite number.") from None


def _quiet_libraries() -> None:
    """Silence progress bars and warnings for programmers, which would hide the command's output."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0" if sys.stderr.isatty() else "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
