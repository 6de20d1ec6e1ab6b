"""What AdaCLIP is measured against: OpenAI's own package and tokenizer, and small models in CLIP's layout.

OpenAI's package asks for torchvision and pkg_resources, which it needs for images and for a version check only:
both are stubbed while it is imported, and nothing of it stays in sys.modules.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import importlib.util
import os
import sys
import types
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

WORDS = ("a", "person", "walks", "runs", "slowly", "twice", "left", "waves", "jump", "turns")
CAPTIONS = "data/kitml-captions/captions.txt"


def openai_package() -> types.ModuleType:
    """OpenAI's `clip`; skips the test when openai-clip is not installed."""
    if importlib.util.find_spec("clip") is None:
        pytest.skip("openai-clip is not installed (extra dev)")
    return _import_openai()


@contextmanager
def modules_kept(*names: str):
    """Puts sys.modules back as it was for these packages and all below them."""

    def mine() -> dict[str, types.ModuleType]:
        return {k: m for k, m in sys.modules.items() if k.partition(".")[0] in names}

    before = mine()
    try:
        yield
    finally:
        for name in mine():
            del sys.modules[name]
        sys.modules.update(before)


@functools.cache
def _import_openai() -> types.ModuleType:
    with modules_kept("clip", "torchvision", "pkg_resources"):
        transforms = types.ModuleType("torchvision.transforms")
        for name in ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize"):
            setattr(transforms, name, lambda *_, **__: None)
        transforms.InterpolationMode = types.SimpleNamespace(BICUBIC="bicubic")
        sys.modules["torchvision"] = types.ModuleType("torchvision")
        sys.modules["torchvision.transforms"] = transforms
        resources = types.ModuleType("pkg_resources")
        resources.packaging = importlib.import_module("packaging")
        importlib.import_module("packaging.version")
        sys.modules["pkg_resources"] = resources
        package = importlib.import_module("clip")
        package.simple_tokenizer = importlib.import_module("clip.simple_tokenizer")
        return package


@contextmanager
def open_clip_openai():
    """open_clip's reader of OpenAI files, `open_clip.openai`; skips the test when open-clip-torch is not installed.

    The package as a whole asks for torchvision and timm, which text does not need: only this part is imported.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("open-clip-torch is not installed (pip install --no-deps open-clip-torch)")
    importlib.import_module("transformers.models.clip.modeling_clip")  # before the stubs, which would mislead it
    with modules_kept("open_clip", "torchvision", "timm"):
        for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc", "timm"):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = torch.nn.BatchNorm2d
        package = sys.modules["open_clip"] = types.ModuleType("open_clip")
        package.__path__ = spec.submodule_search_locations
        yield importlib.import_module("open_clip.openai")


def _alphabet() -> list[str]:
    """The 256 bytes as CLIP's vocabulary writes and orders them: printable ones first, then the rest from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]


def tokenizer_of(merges: list[tuple[str, str]]):
    """A CLIPTokenizer in the vocabulary layout of CLIP: bytes, bytes that end a word, merges, start, end."""
    from transformers import CLIPTokenizer

    alphabet = _alphabet()
    entries = [*alphabet, *(byte + "</w>" for byte in alphabet), *(a + b for a, b in merges)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: i for i, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


@functools.cache
def real_tokenizer():
    """CLIP's tokenizer, 49,408 entries, from the merges that openai-clip carries; skips when it is not installed."""
    spec = importlib.util.find_spec("clip")
    if spec is None or spec.origin is None:
        pytest.skip("openai-clip is not installed (extra dev)")
    with gzip.open(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    return tokenizer_of(merges)


@functools.cache
def tiny_tokenizer():
    """The bytes and a few words: 570 entries or so."""
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.setdefault((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    return tokenizer_of(list(merges))


def text_config(tokenizer, eos: int | None = None, **sizes: int):
    """A text tower's configuration; heads of 64 and 4 × as wide inside, all that OpenAI files can say."""
    from transformers import CLIPTextConfig

    small = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "projection_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
    }
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if eos is None else eos,
        pad_token_id=tokenizer.pad_token_id,
        **small | sizes,
    )


def save_base(folder: Path, *, vision: bool = False, eos: int | None = None, seed: int = 0, **sizes: int) -> Path:
    """A small random CLIP in `folder`: a text tower, or with `vision` both towers."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection, CLIPVisionConfig

    tokenizer = tiny_tokenizer()
    text = text_config(tokenizer, eos, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if vision:
            eyes = CLIPVisionConfig(
                hidden_size=64,
                intermediate_size=256,
                num_hidden_layers=1,
                num_attention_heads=1,
                image_size=8,
                patch_size=4,
                projection_dim=text.projection_dim,
            )
            model = CLIPModel(
                CLIPConfig(text_config=text.to_dict(), vision_config=eyes.to_dict(), projection_dim=text.projection_dim)
            )
        else:
            model = CLIPTextModelWithProjection(text)
        scramble(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scramble(model: torch.nn.Module, scale: float = 1.0) -> None:
    """Moves every tensor away from its tidy initial value (zero biases, unit norms), so that mix-ups show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * scale * torch.randn_like(parameter))


def adapted(base: Path, *, seed: int = 0, strength: float = 0.2, rank: int = 4):
    """An AdaCLIP over `base` whose adapter does something."""
    from adaclip import AdaCLIP

    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        encoder = AdaCLIP.from_base(base, rank=rank, alpha=rank).eval()
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=strength)
    return encoder


def captions() -> list[str]:
    """The 6,134 KIT-ML captions of the shared data; skips, with the reason, where it is missing."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    path = Path(os.environ.get("ADACLIP_SHARED") or beside) / CAPTIONS
    if not path.is_file():
        pytest.skip(f"{CAPTIONS} is not in the shared data (set ADACLIP_SHARED)")
    return path.read_text(encoding="utf-8").splitlines()
