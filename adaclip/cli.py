"""The command `adaclip`: encode prompts, and inspect, compare, export and publish adapters."""

from __future__ import annotations

import json
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

if TYPE_CHECKING:
    from torch import Tensor

    from adaclip.model import AdaCLIP

# Prompts that differ in what a still image cannot show.
PAIRS = Path(__file__).with_name("prompt_pairs.tsv")


@dataclass(frozen=True, kw_only=True)
class _OfAdapter:
    """Options of every verb that takes one adapter."""

    adapter: tyro.conf.Positional[str]
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

    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Prompts; by default they are read from --file or standard input."""
    file: Path | None = None
    """Text file with one prompt per line."""
    out: Path | None = None
    """.npy (pooled vectors), .safetensors (everything, and the prompts) or .jsonl; by default JSON lines on stdout."""
    output: Literal["pooled", "both"] = "pooled"
    """both adds token states and their mask (.safetensors only)."""
    normalize: bool = False
    """Scale vectors to unit length."""
    batch_size: int = 64
    """Largest number of prompts per pass."""
    long: Literal["warn", "error", "chunk"] = "warn"
    """Treatment of prompts over 77 tokens: cut with a warning, error, or several pieces."""

    def __call__(self) -> None:
        kind = ".jsonl" if self.out is None else self.out.suffix
        if kind not in (".npy", ".safetensors", ".jsonl"):
            raise ValueError(
                f"{self.out}: cannot write {kind or 'a file without ending'}; use .npy, .safetensors, .jsonl."
            )
        if self.output == "both" and kind != ".safetensors":
            raise ValueError("Token states need a .safetensors file: --out FILE.safetensors")
        if self.prompts and self.file:
            raise ValueError("Give prompts on the command line or with --file, not both.")
        missing = "prompts found. Write one prompt per line."
        prompts = list(self.prompts) or [line for _, line in _lines(self.file, missing)]
        encoded = self.load().encode(
            prompts, output=self.output, batch_size=self.batch_size, normalize=self.normalize, long=self.long
        )
        tensors = {"pooled": encoded} if self.output == "pooled" else encoded._asdict()
        self._write(prompts, tensors, kind)

    def _write(self, prompts: list[str], tensors: dict[str, Tensor], kind: str) -> None:
        from adaclip.files import atomic_file

        pooled = tensors["pooled"]
        lines = map(_json_line, prompts, pooled.tolist())
        if self.out is None:
            sys.stdout.writelines(lines)
            return
        with atomic_file(self.out) as staging:
            if kind == ".npy":
                import numpy as np

                with staging.open("wb") as file:
                    np.save(file, pooled.numpy(), allow_pickle=False)
            elif kind == ".jsonl":
                staging.write_text("".join(lines), encoding="utf-8")
            else:
                from safetensors.torch import save_file

                save_file(tensors, staging, metadata={"prompts": json.dumps(prompts)})
        print(f"{len(prompts)} prompts, {pooled.shape[1]} numbers each, in {self.out}", file=sys.stderr)


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

    adapters: tyro.conf.Positional[tuple[str, ...]]
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

    out: tyro.conf.Positional[Path]
    """File or folder to write."""
    to: Annotated[str, tyro.conf.arg(help=f"Format: {', '.join(exports.FORMATS)}.")] = "hf"

    def __call__(self) -> None:
        exports.write(self.load(), self.out, self.to)
        print(f"{self.out}: {self.adapter} as {self.to}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Push(_Loading):
    """Publish an adapter on the Hugging Face Hub, with its base if that is a local folder."""

    repo_id: tyro.conf.Positional[str]
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


VERBS = {"encode": Encode, "info": Info, "compare": Compare, "export": Export, "push": Push}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error message of one line. A wrong command line exits with 2."""
    limit_spinning()
    try:
        verb = tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="adaclip", description=f"{__doc__} The usual base is {DEFAULT_BASE}.", args=arguments
        )
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"adaclip: {message}", file=sys.stderr)
            verb()
    except (AdaCLIPError, ValueError, OSError, ImportError) as error:
        print(f"adaclip: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("adaclip: interrupted", file=sys.stderr)
        return 130
    return 0


def _lines(file: Path | None, missing: str) -> list[tuple[int, str]]:
    """Read a text file, or standard input; return the lines that are not empty, each with its number."""
    name = file or "standard input"
    try:
        text = file.read_text(encoding="utf-8") if file else sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 text ({error}).") from error
    found = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise ValueError(f"{name}: no {missing}")
    return found


def _pairs(file: Path) -> list[tuple[str, ...]]:
    pairs = []
    for number, line in _lines(file, "pairs found. Write two prompts per line, separated by a tab."):
        pairs.append(tuple(part.strip() for part in line.split("\t")))
        if len(pairs[-1]) != 2 or not all(pairs[-1]):
            raise ValueError(f"{file}, line {number}: expected two prompts separated by a tab.")
    return pairs


def _json_line(text: str, vector: list[float]) -> str:
    """Return one line of JSON lines, with surrogates (from a command line that is not UTF-8) as escapes."""
    line = json.dumps({"text": text, "vector": vector}, ensure_ascii=False) + "\n"
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _metric(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not (name and equals):
            raise ValueError
        return name, float(value)
    except ValueError:
        raise ValueError(f"--metric {text}: expected NAME=NUMBER.") from None


def _quiet_libraries() -> None:
    """Silence progress bars and warnings for programmers, which would hide the command's output."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0" if sys.stderr.isatty() else "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
