"""Loading adapters and bases from folders and the Hugging Face Hub, and publishing them."""

from __future__ import annotations

import filecmp
import hashlib
import posixpath
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from adaclip.adapter import BASE_FILES, FILES, first_line
from adaclip.base_record import refused_adapter
from adaclip.config import AdaCLIPError
from adaclip.loading import load_base, load_clip
from adaclip.lora_config import CONFIG, adapter_config
from adaclip.lora_files import DIFFUSERS, WEIGHTS
from adaclip.packaged import ENCODER, MISSING, NAME, packaged

__all__ = ["LoadOptions", "check_same_base", "fetch_files", "load_base", "load_clip", "located", "push_folder"]
__all__ += ["recorded_base", "resolve_adapter"]


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading weights: the keyword arguments of `AdaCLIP.from_pretrained`."""

    dtype: torch.dtype | None = None  # None: as stored; torch.float16 or bfloat16 for speed on an accelerator
    device: torch.device | str | None = None  # None: CPU
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    subfolder: str = ""  # of a repository or folder with several adapters

    def __post_init__(self) -> None:
        try:
            torch.device(self.device or "cpu")
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device must be such as 'cpu' or 'cuda:0', got {self.device!r}.") from error

    @classmethod
    def of(cls, options: Mapping[str, Any], *, without: Collection[str] = ()) -> LoadOptions:
        """Return keyword arguments as options; raise TypeError for one that is unknown or has no effect here."""
        known = [field.name for field in fields(cls) if field.name not in without]
        for name in options:
            if name not in known:
                near = get_close_matches(name.removeprefix("torch_"), known, 1)
                hint = f"did you mean {near[0]}=?" if near else f"choose from {', '.join(known)}."
                raise TypeError(f"{name}= is not an option for loading here: {hint}")
        return cls(**options)

    def for_base(self) -> LoadOptions:
        """Return the options for the base model, to which the adapter's revision and subfolder do not apply."""
        return replace(self, revision=None, subfolder="")

    def download(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("revision", "token", "cache_dir", "local_files_only")}


def resolve_adapter(repo_or_path: str, load: LoadOptions) -> Path:
    """Return the folder of an adapter, packaged or downloaded, or the LoRA file of another program.

    Raises AdaCLIPError if it is no adapter.
    """
    folder = packaged(repo_or_path) or Path(repo_or_path).expanduser()
    if folder.is_file() and folder.suffix == ".safetensors":
        return folder  # a LoRA file of another program
    if not folder.is_dir():
        if folder.exists() or repo_or_path.startswith((".", "/", "~")) or repo_or_path.count("/") != 1:
            advice = MISSING if folder == ENCODER else f"Give a folder, a Hub id (owner/name) or {NAME}."
            raise AdaCLIPError(f"{repo_or_path}: no such adapter folder. {advice}")
        folder = _download(repo_or_path, load)
    folder = folder / load.subfolder
    if not folder.is_dir():
        raise AdaCLIPError(f"{repo_or_path}: there is no folder {load.subfolder} in it.")
    if not (folder / CONFIG).is_file() and (folder / DIFFUSERS).is_file():
        return folder / DIFFUSERS
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            other = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl"))
            hint = f" It holds {', '.join(other)}, which is refused: only safetensors are read." if other else ""
            if not other and (folder / "config.json").is_file():
                hint = " It holds a whole model: load a CLIP text encoder with AdaCLIP.from_base."
            raise AdaCLIPError(f"{folder}: {name} is missing, so this is not an adapter folder.{hint}")
    return folder


def located(base: str | Path) -> str:
    """Return a base that is valid in any working directory: the whole path of a folder or file, a Hub id as it is.

    Raises AdaCLIPError for the folder of an adapter.
    """
    folder = packaged(base) or Path(base).expanduser()
    if (folder / CONFIG).is_file():
        raise refused_adapter(str(base))
    return str(folder.absolute()) if folder.exists() else str(base)


def commit_of(place: str | Path) -> str | None:
    """Return the commit of a folder in the Hub's cache, whose snapshots are named by it; None for other folders."""
    found = re.search(r"/snapshots/([0-9a-f]{40})(?:/|$)", Path(place).as_posix())
    return found[1] if found else None


def cached_commit(base: str, load: LoadOptions | None = None) -> str | None:
    """Return the commit of a base in the Hub's cache; None for other folders, or for what was never downloaded."""
    from huggingface_hub import try_to_load_from_cache

    if (folder := Path(base).expanduser()).exists():
        return commit_of(folder.absolute())
    load = load or LoadOptions()
    try:
        found = try_to_load_from_cache(base, "config.json", cache_dir=load.cache_dir, revision=load.revision)
    except ValueError:  # no name of a repository
        return None
    return commit_of(found) if isinstance(found, str) else None


def recorded_base(folder: Path) -> str:
    """Return the base that an adapter records: a Hub id, or a folder or file (recorded relative to the adapter's)."""
    if folder.is_file():
        raise AdaCLIPError(f"{folder}: a LoRA file does not record its base. Pass base=.")
    base = adapter_config(folder).get("base_model_name_or_path")
    if not base:
        raise AdaCLIPError(f"{folder / CONFIG}: base_model_name_or_path is empty. Pass base=.")
    beside = (folder / base).resolve()
    if not beside.exists() and base.startswith((".", "/")):
        raise AdaCLIPError(f"{folder / CONFIG}: the base {base} is not at {beside}. Move it there or pass base=.")
    return str(beside) if beside.exists() else base


def check_same_base(folder: Path, base: str) -> None:
    """Raise AdaCLIPError if the adapter in `folder` was certainly made for another base than `base`.

    Two Hub ids are compared by name, two folders by their weights; a Hub id and a folder cannot be compared.
    """
    try:
        recorded = recorded_base(folder)
    except AdaCLIPError:
        return  # not recorded, or no longer there
    folders = [Path(name) for name in (recorded, base) if Path(name).is_dir()]
    weights = [folder / "model.safetensors" for folder in folders]
    if len(folders) == 2:
        differs = all(path.is_file() for path in weights) and not filecmp.cmp(*weights, shallow=False)
    else:
        differs = not folders and recorded != base
    if differs:
        raise AdaCLIPError(f"{folder}: this adapter was made for the base {recorded}, this encoder's is {base}.")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | bool | None,
    private: bool | None,
    revision: str | None,
    message: str,
    subfolder: str = "",
    what: str = "adapter",
) -> str:
    """Upload a folder to a repository, created if necessary; return the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        where = {"path_in_repo": subfolder or None, "revision": revision, "commit_message": message}
        commit = api.upload_folder(folder_path=folder, repo_id=repo_id, **where)
    except _hub_errors() as error:
        raise AdaCLIPError(
            f"The {what} cannot be pushed to {repo_id}: {first_line(error)} "
            "Check the name and the connection, and log in with `hf auth login` or pass token=."
        ) from error
    return str(commit.commit_url)


def fetch_files(
    repo_id: str, patterns: Sequence[str], load: LoadOptions, *, what: str = "adapter", **changes: object
) -> Path:
    """Download files of a repository, and compare its weights with their digests."""
    from huggingface_hub import snapshot_download

    try:
        snapshot = Path(snapshot_download(repo_id, allow_patterns=list(patterns), **(load.download() | changes)))
    except _hub_errors() as error:
        raise AdaCLIPError(
            f"The {what} {repo_id} is neither a folder nor available from the Hub: {first_line(error)} "
            "Check the name, and connect once so that it is cached."
        ) from error
    for path in (path for pattern in patterns for path in snapshot.glob(pattern) if path.suffix == ".safetensors"):
        _check_digest(path)
    return snapshot


def _download(repo_id: str, load: LoadOptions) -> Path:
    """Download one adapter of a repository, with its base if that is in the repository; return the snapshot folder."""
    snapshot = fetch_files(repo_id, [posixpath.join(load.subfolder, name) for name in FILES], load)
    if (snapshot / load.subfolder / CONFIG).is_file():
        base = str(adapter_config(snapshot / load.subfolder).get("base_model_name_or_path"))
        inside = posixpath.normpath(posixpath.join(load.subfolder, base))
        if base.startswith(".") and not inside.startswith(".."):
            # The snapshot's name is its commit, so that both parts have the same version.
            fetch_files(repo_id, [posixpath.join(inside, name) for name in BASE_FILES], load, revision=snapshot.name)
    return snapshot


def _check_digest(path: Path) -> None:
    """Compare a downloaded file with the digest under which the Hub's cache keeps it."""
    if not path.is_file() or not path.is_symlink():
        return  # missing files are reported elsewhere; without symbolic links the cache has no digests
    from huggingface_hub.utils.sha import git_hash

    blob = path.resolve()
    digest = blob.name
    if len(blob.name) == 64:  # a large file: its SHA-256
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    elif len(blob.name) == 40:  # a small one: git's name for it
        digest = git_hash(blob.read_bytes())
    if digest != blob.name:
        raise AdaCLIPError(f"{path}: damaged in the download (its digest is wrong). Delete {blob} and load again.")


def _hub_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of huggingface_hub for a Hub that is unreachable or refuses a request."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # huggingface_hub 1 uses httpx, version 2 uses httpx2; the right one has been imported by now.
    clients = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, *(c.HTTPError for c in clients)
