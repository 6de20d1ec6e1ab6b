"""Networks as folders: config.json and model.safetensors, written whole or not at all and loaded strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from adaclip.files import FileError, atomic_folder, check_regular, read_json, write_json
from adaclip.integrity import check_digests, write_digests
from adaqf_train.errors import ArtefactError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_HEADER = 4 << 20  # bytes of a safetensors header; the largest networks here have 100 kB
SMALL = 1_000_000  # numbers
POCKET = Path(__file__).with_name("pocket")  # the packaged generator and evaluator
ADVICE = "Train it again or give another run."
Network = TypeVar("Network", bound=nn.Module)


def write_network(folder: Path, network: nn.Module, config: Mapping[str, object], *, half: bool = False) -> None:
    """Writes config.json and model.safetensors into a folder, such as one that `atomic_folder` gives.

    half: parameters in half precision, for small files; buffers, such as statistics of features, as they are.
    """
    halved = {name for name, _ in network.named_parameters()} if half else set()
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file({name: value.half() if name in halved else value for name, value in state.items()}, folder / WEIGHTS)
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
        config, tensors = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS)
        with room_for(tensors):
            network = build(config)
        network.load_state_dict(tensors)
    check_unchanged(folder)
    return network.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ValueError for a header of absurd size, which takes minutes to read."""
    check_regular(path)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MOST_HEADER:
        raise ValueError(f"{path.name} lists {header:,} bytes of tensors, more than {MOST_HEADER:,}")
    return load_file(path)


@contextmanager
def room_for(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this context, building a network far larger than the tensors that are to fill it is a ValueError.

    It is raised as soon as a parameter is registered, before its memory is written and thus taken.
    """
    held, made = sum(value.numel() for value in tensors.values()), 0

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal made
        made += 0 if value is None else value.numel()
        if made > 2 * held + SMALL:
            raise ValueError(f"{CONFIG} describes more numbers than the {held:,} in its weights")

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
