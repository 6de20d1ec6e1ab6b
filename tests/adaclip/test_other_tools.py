"""LoRA files of kohya's scripts and of diffusers: converted with every tensor accounted for, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.cli import main
from tests.helpers import FLOAT32, deviation

MODULES = ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
Namer = Callable[[str, str], str]


def changes(base: Path) -> dict[str, tuple[Tensor, Tensor, float]]:
    """For each adapted module A (rank, in), B (out, rank) and alpha; ranks differ."""
    generator = torch.Generator().manual_seed(4)
    model = CLIPTextModelWithProjection.from_pretrained(base)
    found = {}
    for layer in range(2):
        for number, part in enumerate(MODULES):
            name = f"text_model.encoder.layers.{layer}.{part}"
            rows, columns = model.get_submodule(name).weight.shape
            rank = 1 + number
            down, up = (0.5 * torch.randn(shape, generator=generator) for shape in ((rank, columns), (rows, rank)))
            found[name] = (down, up, 2.0 + number)
    return found


def merged(base: Path, made: dict[str, tuple[Tensor, Tensor, float]], *, alpha: bool = True) -> Tensor:
    """The right vectors: the changes added to the weights by hand."""
    model = CLIPTextModelWithProjection.from_pretrained(base).eval()
    with torch.no_grad():
        for name, (down, up, value) in made.items():
            scale = value / len(down) if alpha else 1.0
            model.get_submodule(name).weight.add_(scale * up @ down)
        tokenizer = tiny.tokenizer()
        rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in tiny.PROMPTS]
        return torch.cat([model(input_ids=row).text_embeds for row in rows])


def kohya(prefix: str) -> Namer:
    parts = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    return lambda module, part: f"{prefix}_{module.replace('.', '_')}.{parts[part]}"


def dotted(prefix: str, down: str, up: str) -> Namer:
    parts = {"down": down, "up": up, "alpha": "alpha"}
    return lambda module, part: f"{prefix}{module}.{parts[part]}"


NAMERS = {
    "kohya SD 1": kohya("lora_te"),
    "kohya SDXL": kohya("lora_te1"),
    "diffusers": dotted("text_encoder.", "lora_A.weight", "lora_B.weight"),
    "diffusers, second encoder": dotted("text_encoder_2.", "lora_A.weight", "lora_B.weight"),
    "diffusers 0.20": dotted("text_encoder.", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    "no prefix": dotted("", "lora_A.weight", "lora_B.weight"),
}


def tensors(made: dict[str, tuple[Tensor, Tensor, float]], name: Namer, *, alpha: bool) -> dict[str, Tensor]:
    found = {}
    for module, (down, up, value) in made.items():
        found |= {name(module, "down"): down, name(module, "up"): up}
        if alpha:
            found[name(module, "alpha")] = torch.tensor(value)
    return {key: value.clone() for key, value in found.items()}


@pytest.mark.parametrize("tool", NAMERS)
@pytest.mark.parametrize("alpha", [True, False])
def test_lora_files_of_other_tools_are_converted(base: Path, tmp_path: Path, tool: str, alpha: bool) -> None:
    made = changes(base)
    stored = tensors(made, NAMERS[tool], alpha=alpha)
    save_file(stored, tmp_path / "lora.safetensors")
    encoder = AdaCLIP.from_pretrained(tmp_path / "lora.safetensors", base=base)
    right = merged(base, made, alpha=alpha)
    assert deviation(encoder.encode(tiny.PROMPTS), right) < 10 * FLOAT32
    assert deviation(encoder.encode(tiny.PROMPTS, adapter="base"), right) > 1e-2
    again = AdaCLIP.from_pretrained(encoder.save_pretrained(tmp_path / "adapter"))
    assert torch.equal(again.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    beside = AdaCLIP.from_base(base, rank=2)
    beside.load_adapter(tmp_path / "lora.safetensors", "kit")
    assert deviation(beside.encode(tiny.PROMPTS, adapter="kit"), right) < 10 * FLOAT32


def test_alpha_in_the_metadata_of_diffusers_is_used(base: Path, tmp_path: Path) -> None:
    made = changes(base)
    fields = {"text_encoder.lora_alpha": 3, "text_encoder.alpha_pattern": {"mlp.fc1": 6}}
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(
        tensors(made, NAMERS["diffusers"], alpha=False),
        folder / "pytorch_lora_weights.safetensors",
        metadata={"lora_adapter_metadata": json.dumps(fields)},
    )
    with_alpha = {name: (down, up, 6.0 if "fc1" in name else 3.0) for name, (down, up, _) in made.items()}
    found = AdaCLIP.from_pretrained(folder, base=base).encode(tiny.PROMPTS)
    assert deviation(found, merged(base, with_alpha)) < 10 * FLOAT32


def test_other_networks_are_left_out_with_a_word(base: Path, tmp_path: Path) -> None:
    made = changes(base)
    stored = tensors(made, NAMERS["kohya SD 1"], alpha=True) | {"lora_unet_mid.lora_down.weight": torch.zeros(2, 3)}
    wide = {name: torch.zeros(2, 32) for name in ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",)}
    wide |= {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(99, 2)}
    save_file(stored | wide, tmp_path / "lora.safetensors")
    with pytest.warns(UserWarning, match="left out are 1 tensors of other networks, of lora_te2"):
        encoder = AdaCLIP.from_pretrained(tmp_path / "lora.safetensors", base=base)
    assert deviation(encoder.encode(tiny.PROMPTS), merged(base, made)) < 10 * FLOAT32


FC1 = "lora_te_text_model_encoder_layers_0_mlp_fc1"
REFUSED = {
    "loha": ({f"{FC1}.hada_w1_a": (2, 2)}, r"tensor .*hada_w1_a is of no kind that can be converted"),
    "lokr": ({f"{FC1}.lokr_w1": (2, 2)}, r"tensor .*lokr_w1 is of no kind"),
    "dora": ({f"{FC1}.dora_scale": (16, 1)}, r"tensor .*dora_scale is of no kind"),
    "conv": ({f"{FC1}.lora_mid.weight": (2, 2, 3, 3)}, r"tensor .*lora_mid\.weight is of no kind"),
    "a stranger": ({"stranger": (2,)}, r"tensor stranger is of no kind"),
    "no module": ({"lora_te_other.lora_down.weight": (2, 8)}, r"the base has no linear module other"),
    "half": ({f"{FC1}.lora_down.weight": (2, 8)}, r"mlp_fc1 lacks one of its two matrices"),
    "shape": (
        {f"{FC1}.lora_down.weight": (2, 9), f"{FC1}.lora_up.weight": (16, 2)},
        r"changes a matrix of 16 × 9, the base has 16 × 8",
    ),
    "u-net only": ({"lora_unet_mid.lora_down.weight": (2, 8)}, r"it adapts no text encoder \(1 tensors"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_lora_files_that_cannot_be_converted_are_refused(
    base: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture
) -> None:
    shapes, said = REFUSED[kind]
    path = tmp_path / "lora.safetensors"
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(AdaCLIPError, match=said):
        AdaCLIP.from_pretrained(path, base=base)
    assert main(["encode", str(path), "hi", "--base", str(base)]) == 1
    assert "lora.safetensors" in capsys.readouterr().err


def test_a_lora_file_needs_a_base(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_file(tensors(changes(base), NAMERS["kohya SD 1"], alpha=True), tmp_path / "lora.safetensors")
    assert main(["encode", str(tmp_path / "lora.safetensors"), "hi"]) == 1
    assert "does not record its base. Pass base=" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "lora.safetensors")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
