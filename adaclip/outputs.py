"""Files of the command line: prompts in, vectors out, and protection of what must not be overwritten."""

from __future__ import annotations

import json
import stat
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaclip.config import AdaCLIPError
from adaclip.files import MOST_BYTES, atomic_file, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

VECTORS = (".npy", ".safetensors", ".jsonl")
# Files that mark a folder as a model's.
MODEL_FILES = (
    "adapter_config.json",
    "config.json",
    "adaclip.json",
    "modules.json",
    "model_index.json",
    "denoiser.json",
)
MODEL_FILES += ("stages.json", "run.json")
HEADER_BYTES = 50 * 2**20  # of prompts in the header of a safetensors file, whose readers refuse 100 MB


def read_lines(file: Path | None) -> list[str]:
    r"""Return the lines of a UTF-8 file or of standard input: one for each "\n", blank ones too, without a BOM."""
    name = file or "standard input"
    if file is not None:
        file = file.expanduser()
        pipe = file.exists() and stat.S_ISFIFO(file.stat().st_mode)  # <(command) in a shell
        content: bytes | str = _read_pipe(file) if pipe else read_bytes(file)
    elif sys.stdin is None:
        raise ValueError("Standard input is closed: give prompts on the command line or with --file.")
    else:
        content = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read()
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 text ({error}).") from error
    if "\0" in text:
        raise ValueError(f"{name}: holds NUL characters, so it is no text.")
    lines = text.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()  # the end of the last line is not the start of another
    return [line.removesuffix("\r") for line in lines]


def _read_pipe(file: Path) -> bytes:
    with file.open("rb") as pipe:
        content = pipe.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{file}: more than {MOST_BYTES:,} bytes.")
    return content


def free_output(path: Path, *, force: bool, width: int | None = None) -> Path:
    """Return the file that writing to `path` replaces; raise AdaCLIPError if it must not be lost.

    An existing file is replaced if it is an earlier result of this command, outside a model's folder.

    Args:
        path: File to write; `~` is expanded, and symbolic links are followed.
        force: Replace any file.
        width: Numbers of a vector, by which an earlier .npy file is recognised.
    """
    target = path.expanduser().resolve()
    if target.is_dir():
        raise AdaCLIPError(f"{path}: is a folder. Give a file name.")
    if force or not target.exists():
        return target
    if not target.is_file():
        raise AdaCLIPError(f"{path}: is no regular file. Give another name.")
    shown = str(path) if target == path.absolute() else f"{path} ({target})"
    folder = target.parent
    mark = next((name for name in MODEL_FILES if (folder / name).is_file()), None)
    if mark:
        raise AdaCLIPError(
            f"{shown}: lies in a model's folder ({mark} is beside it). Give another name, or use --force."
        )
    if not _is_result(target, width):
        raise AdaCLIPError(f"{shown}: exists, and is not an earlier result. Give another name, or use --force.")
    return target


def _is_result(path: Path, width: int | None) -> bool:
    """Tell whether a file looks like a result of `encode` or `export`."""
    try:
        if path.stat().st_size == 0:
            return True  # as mktemp makes one
        if path.suffix == ".npy":
            import numpy as np

            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return array.ndim == 2 and array.dtype == np.float32 and array.shape[1] == width
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "np") as file:
                return "prompts" in (file.metadata() or {})
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                row = json.loads(file.readline(MOST_BYTES))
            return isinstance(row, dict) and row.keys() == {"text", "vector"}
        if zipfile.is_zipfile(path):  # OpenAI's format
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("adaclip_export.json") for name in archive.namelist())
        return path.suffix == ".onnx" and b"adaclip.format" in path.read_bytes()
    except Exception:  # no such file, whatever is wrong with it
        return False


def write_vectors(path: Path, prompts: Sequence[str], tensors: dict[str, Tensor]) -> None:
    """Write encoded prompts in the format of the file's name, atomically."""
    with atomic_file(path) as staging:
        if path.suffix == ".npy":
            import numpy as np

            with staging.open("wb") as file:
                np.save(file, tensors["pooled"].numpy(), allow_pickle=False)
        elif path.suffix == ".jsonl":
            with staging.open("w", encoding="utf-8", newline="\n") as lines:
                lines.writelines(json_lines(prompts, tensors["pooled"]))
        else:
            from safetensors.torch import save_file

            kept = json.dumps(list(prompts))
            if len(kept) > HEADER_BYTES:
                raise ValueError(f"{path}: too many prompts for a safetensors file. Use .npy or .jsonl.")
            save_file(tensors, staging, metadata={"prompts": kept})


def json_lines(prompts: Sequence[str], vectors: Tensor) -> Iterator[str]:
    """Yield one line of JSON for each prompt, with surrogates (from a command line that is not UTF-8) as escapes."""
    for text, vector in zip(prompts, vectors, strict=True):
        yield json_line({"text": text, "vector": vector.tolist()})


def json_line(row: Any) -> str:
    """Return a value as one line of JSON."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    return line.encode("utf-8", "backslashreplace").decode("utf-8")
