"""Networks as folders: config.json and model.safetensors, written whole or not at all and loaded strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from adaclip.files import FileError, atomic_folder, read_json, write_json
from adaclip.integrity import check_digests, write_digests
from adaqf_train.errors import ArtefactError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
ADVICE = "Train it again or give another run."
Network = TypeVar("Network", bound=nn.Module)


def write_network(folder: Path, network: nn.Module, config: Mapping[str, object]) -> None:
    """Writes config.json and model.safetensors into a folder, such as one that `atomic_folder` gives."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    write_json(folder / CONFIG, config)


def save_network(folder: Path, network: nn.Module, config: Mapping[str, object]) -> Path:
    """Writes a network as a folder of its own, which replaces an older one."""
    with atomic_folder(folder) as staging:
        write_network(staging, network, config)
        write_digests(staging)
    return folder


def load_network(folder: Path, build: Callable[[dict], Network], also: Sequence[str] = ()) -> Network:
    """The network that `build` makes from config.json, in eval mode and with every tensor, or ArtefactError."""
    with reading(folder, (CONFIG, WEIGHTS, *also)):
        network = build(read_json(folder / CONFIG))
        network.load_state_dict(load_file(folder / WEIGHTS))
    check_unchanged(folder)
    return network.eval()


def check_unchanged(folder: Path, advice: str = ADVICE) -> None:
    """ArtefactError for a file that changed since the folder was saved."""
    try:
        check_digests(folder, advice)
    except FileError as error:
        raise ArtefactError(str(error)) from error


@contextmanager
def reading(folder: Path, names: Sequence[str], advice: str = ADVICE) -> Iterator[None]:
    """Reports failures to read these files of a folder as an ArtefactError of one line that ends with the advice."""
    for name in names:
        if not (folder / name).is_file():
            raise ArtefactError(f"{folder / name}: missing. {advice}")
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise ArtefactError(f"{folder}: cannot be loaded ({what}). {advice}") from error
