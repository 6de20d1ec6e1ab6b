"""Calls that would give wrong vectors without a word: each gives the right ones, or an error."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

from adaclip import AdaCLIP, AdaCLIPError
from tests.helpers import FLOAT32, deviation


def rewrite(base: Path, change: str) -> None:
    """Replace the text weights of a base folder."""
    weights = base / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    first = "text_model.encoder.layers.1.mlp.fc1.weight"
    if change == "one value":
        tensors[first][0, 0] += 0.1
    elif change == "another base":
        tensors = {name: tensor.flip(0) for name, tensor in tensors.items()}
    elif change == "activation":
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    elif change == "shards":
        model = CLIPTextModelWithProjection.from_pretrained(base)
        with torch.no_grad():
            model.get_parameter(first).add_(0.1)
        weights.unlink()
        model.save_pretrained(base, max_shard_size="4KB")
        return
    elif change == "half precision":
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.fixture
def movable(base: Path, tmp_path: Path) -> Path:
    """An adapter beside its own copy of the base."""
    folder = shutil.copytree(base, tmp_path / "own" / "base")
    torch.manual_seed(0)
    return tiny.perturb(AdaCLIP.from_base(folder, rank=2)).save_pretrained(tmp_path / "own" / "adapter")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("one value", r"its text weights have sha256 \w+… instead of"),
        ("another base", "its text weights have sha256"),
        ("shards", "its text weights have sha256"),
        ("activation", "hidden_act is 'relu' instead of 'quick_gelu'"),
    ],
)
def test_base_that_was_replaced_is_refused(movable: Path, change: str, said: str, encoder: AdaCLIP) -> None:
    before = AdaCLIP.from_pretrained(movable).encode(["hi"])
    rewrite(movable.parent / "base", change)
    for dtype in (None, torch.float16, torch.bfloat16):
        with pytest.raises(AdaCLIPError, match=said):
            AdaCLIP.from_pretrained(movable, dtype=dtype)
    after = AdaCLIP.from_pretrained(movable, check_base=False).encode(["hi"])
    assert not torch.equal(after, before)
    encoder.load_adapter(movable, "kit", check_base=False)
    if change != "activation":
        with pytest.raises(AdaCLIPError, match="made for"):
            AdaCLIP.from_base(movable.parent / "base", rank=1).load_adapter(movable, "kit")


def test_base_in_another_precision_or_form_is_the_same(movable: Path) -> None:
    full = AdaCLIP.from_pretrained(movable).encode(["hi"])
    for dtype in (torch.float16, torch.bfloat16):
        half = AdaCLIP.from_pretrained(movable, dtype=dtype)
        saved = half.save_pretrained(movable.parent / f"{dtype}")
        AdaCLIP.from_pretrained(saved)
    CLIPTextModelWithProjection.from_pretrained(movable.parent / "base").save_pretrained(
        movable.parent / "base", max_shard_size="4KB"
    )
    (movable.parent / "base" / "model.safetensors").unlink()
    assert deviation(AdaCLIP.from_pretrained(movable).encode(["hi"]), full) < FLOAT32
    (movable / "digests.json").unlink()
    rewritten = json.loads((movable / "adaclip.json").read_text())
    del rewritten["base_text"]  # as earlier versions wrote it
    (movable / "adaclip.json").write_text(json.dumps(rewritten))
    assert deviation(AdaCLIP.from_pretrained(movable).encode(["hi"]), full) < FLOAT32


def test_adapter_in_the_place_of_a_base_is_refused(adapter: Path, encoder: AdaCLIP) -> None:
    for call in (lambda: AdaCLIP.from_base(adapter), lambda: AdaCLIP.from_pretrained(adapter, base=adapter)):
        with pytest.raises(AdaCLIPError, match=r"is a trained adapter, not a base.*from_pretrained"):
            call()


def test_base_with_nan_is_refused(movable: Path) -> None:
    weights = movable.parent / "base" / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    tensors["text_projection.weight"][0, 0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    for call in (lambda: AdaCLIP.from_base(weights.parent), lambda: AdaCLIP.from_pretrained(movable)):
        with pytest.raises(AdaCLIPError, match=r"text_projection\.weight holds NaN"):
            call()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), True, "1", None])
def test_numbers_that_are_none_are_refused(encoder: AdaCLIP, base: Path, wrong: object) -> None:
    with pytest.raises(AdaCLIPError, match="the weight of default is"):
        encoder.mix_adapters({"default": wrong}, "mix")
    with pytest.raises(ValueError, match="strength must be a finite number"):
        encoder.encode(["hi"], strength=wrong)
    if wrong is not True:
        with pytest.raises((ValueError, TypeError)):
            AdaCLIP.from_base(base, alpha=wrong)
    assert encoder.adapters == ["default"]


def test_arguments_are_used_or_refused(encoder: AdaCLIP, adapter: Path, base: Path) -> None:
    with pytest.raises(TypeError, match="subfolder= is not an option"):
        AdaCLIP.from_base(base, subfolder="text_encoder")
    with pytest.raises(TypeError, match="torch_dtype= is not an option for loading here: did you mean dtype="):
        AdaCLIP.from_pretrained(adapter, torch_dtype=torch.float16)
    with pytest.raises(TypeError, match="device= is not an option"):
        encoder.load_adapter(adapter, "kit", device="cpu")
    with pytest.raises(ValueError, match=r"modules must be a sequence of names, got 'q_proj': write \('q_proj',\)"):
        AdaCLIP.from_base(base, modules="q_proj")
    for options in ({"output": "both"}, {"convert_to_tensor": True}):
        with pytest.raises(ValueError, match="convert_to_numpy"):
            encoder.encode(["hi"], convert_to_numpy=True, **options)


@pytest.mark.parametrize("name", ["base", "train", "keys", "forward", "-x", "a b", "default"])
def test_names_that_cannot_be_used_are_refused(encoder: AdaCLIP, adapter: Path, name: str) -> None:
    before = encoder.encode(tiny.PROMPTS)
    for add in (lambda: encoder.load_adapter(adapter, name), lambda: encoder.mix_adapters({"default": 1.0}, name)):
        with pytest.raises(AdaCLIPError, match=f"'{name}' cannot name another adapter"):
            add()
    assert torch.equal(encoder.encode(tiny.PROMPTS), before)


def test_two_active_adapters_are_refused(encoder: AdaCLIP, adapter: Path) -> None:
    encoder.load_adapter(adapter, "kit")
    encoder.text_model.base_model.set_adapter(["default", "kit"])
    for call in (lambda: encoder.encode(["hi"]), lambda: encoder.merged(), lambda: list(encoder.adapter_parameters())):
        with pytest.raises(AdaCLIPError, match=r"2 adapters are active \(default, kit\)"):
            call()
    encoder.set_adapter("kit")
    assert encoder.encode(["hi"]).isfinite().all()


def test_disabling_by_peft_counts_as_well(encoder: AdaCLIP) -> None:
    plain, own = encoder.encode(["hi"], adapter="base"), encoder.encode(["hi"])
    with encoder.text_model.disable_adapter():
        assert torch.equal(encoder.encode(["hi"]), plain)
        assert torch.equal(encoder.encode(["hi"], adapter="default"), own)
    assert torch.equal(encoder.encode(["hi"]), own)


def test_disabling_concerns_one_thread_only(encoder: AdaCLIP) -> None:
    own, plain = encoder.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS, adapter="base")
    ids, mask = encoder.tokenize(tiny.PROMPTS)
    inside, leave, found = threading.Event(), threading.Event(), {}

    def disabled() -> None:
        with encoder.disable_adapter(), torch.no_grad():
            inside.set()
            leave.wait(10)
            found["encode"], found["forward"] = encoder.encode(tiny.PROMPTS), encoder(ids, mask).pooled

    thread = threading.Thread(target=disabled)
    thread.start()
    inside.wait(10)
    with torch.no_grad():
        assert torch.equal(encoder.encode(tiny.PROMPTS), own)
        assert deviation(encoder(ids, mask).pooled, own) < FLOAT32
    leave.set()
    thread.join()
    assert torch.equal(found["encode"], plain)
    assert deviation(found["forward"], plain) < FLOAT32


def test_padding_that_would_be_read_as_tokens_is_refused(encoder: AdaCLIP) -> None:
    ids, mask = encoder.tokenize(["a person walks", "hi"])
    right = encoder(ids, mask).pooled
    for same in (mask.long(), mask.float(), None):
        assert torch.equal(encoder(ids, same).pooled, right)
    rolled, rolled_mask = ids.roll(3, dims=1), mask.roll(3, dims=1)
    padded = torch.nn.functional.pad(ids, (4, 0), value=encoder.eos_token_id)
    shorter = mask.clone()
    shorter[0, 4:] = False
    hole = mask.clone()
    hole[0, 2] = False
    additive = (~mask).float() * -1e4
    wrong = [(padded, None), (padded, torch.nn.functional.pad(mask, (4, 0))), (rolled, rolled_mask), (ids, shorter)]
    wrong += [(ids, hole), (ids, additive), (ids, mask[:, :-1]), (ids, torch.zeros_like(mask)), (ids, 2 * mask.long())]
    for tokens, given in wrong:
        with pytest.raises(ValueError, match=r"attention_mask|input_ids"):
            encoder(tokens, given)


def test_any_sequence_of_text_is_encoded(encoder: AdaCLIP) -> None:
    class Series:  # as pandas has it: no Sequence, but `tolist`
        def tolist(self) -> list[str]:
            return tiny.PROMPTS

    expected = encoder.encode(tiny.PROMPTS)
    for texts in (np.array(tiny.PROMPTS), np.array(tiny.PROMPTS, dtype=object), tuple(tiny.PROMPTS), Series()):
        assert torch.equal(encoder.encode(texts), expected)
    for wrong in (np.array([tiny.PROMPTS]), np.arange(3), np.array("hi"), torch.zeros(2), np.array(["hi", None])):
        with pytest.raises(TypeError, match=r"[Pp]rompt"):
            encoder.encode(wrong)
    unit = encoder.encode(tiny.PROMPTS, normalize_embeddings=True)
    assert torch.equal(unit, encoder.encode(tiny.PROMPTS, normalize=True))


def test_a_prompt_of_megabytes_is_refused(encoder: AdaCLIP) -> None:
    with pytest.raises(ValueError, match=r"Prompt 1 has 12,000,000 characters .*at most 100,000 are read"):
        encoder.encode(["hi", "walk " * 2_400_000], long="chunk")


@pytest.mark.parametrize("output", ["pooled", "both"])
def test_many_prompts_give_the_rows_of_few(encoder: AdaCLIP, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    texts = [f"{prompt} {i % 7}" for i in range(5) for prompt in tiny.PROMPTS] + ["", "walks. " * 60]
    found = {}
    for block in (4096, 5):
        monkeypatch.setattr("adaclip.model.BLOCK", block)
        monkeypatch.setattr("adaclip.streaming.BLOCK", block)
        encoder.cache.clear()
        with pytest.warns(UserWarning, match="1 of 22 prompts exceed 77 tokens") as warned:
            found[block] = encoder.encode(texts, output=output)
        assert len(warned) == 1
        assert warned[0].filename == __file__
        with pytest.raises(ValueError, match="1 of 22 prompts exceed"):
            encoder.encode(texts, long="error")
        found[block] = [found[block]] if output == "pooled" else [*found[block], encoder.encode(texts, long="chunk")]
    assert all(deviation(few.float(), many.float()) < FLOAT32 for few, many in zip(*found.values(), strict=True))
    repeated = encoder.encode([*texts[:4]] * 3)
    assert torch.equal(repeated[:4], repeated[8:])


def test_out_receives_the_vectors(encoder: AdaCLIP, tmp_path: Path) -> None:
    texts = [*tiny.PROMPTS, "hi"]
    expected = encoder.encode(texts)
    mapped = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=tuple(expected.shape))
    assert encoder.encode(texts, out=mapped) is mapped
    assert deviation(torch.from_numpy(np.load(tmp_path / "out.npy")), expected) < FLOAT32
    place = torch.zeros_like(expected[:4])
    assert encoder.encode(tiny.PROMPTS, out=place, normalize=True) is place
    assert deviation(place, encoder.encode(tiny.PROMPTS, normalize=True)) < FLOAT32
    for wrong in (place[:2], place.double(), [0.0], np.zeros((4, 6))):
        with pytest.raises(ValueError, match="out must be a float32 array or tensor of shape"):
            encoder.encode(tiny.PROMPTS, out=wrong)
    with pytest.raises(ValueError, match="out goes with"):
        encoder.encode(tiny.PROMPTS, out=place, output="both")


def test_out_that_cannot_hold_the_vectors_is_refused(encoder: AdaCLIP) -> None:
    read_only = np.zeros((4, 6), np.float32)
    read_only.setflags(write=False)  # as np.load(mmap_mode="r") gives it; a write there ends the process
    shared = torch.zeros(1, 6).expand(4, 6)
    for out, message in (
        (read_only, "read-only"),
        (shared, "share memory"),
        (np.zeros((4, 6), np.float32)[::-1], "negative stride"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.encode(tiny.PROMPTS, out=out)
    assert not shared.any()


def test_encode_device_is_that_of_the_results(encoder: AdaCLIP) -> None:
    expected = encoder.encode(tiny.PROMPTS)
    assert torch.equal(encoder.encode(tiny.PROMPTS, device="cpu"), expected)
    assert encoder.encode(tiny.PROMPTS, device="meta").device.type == "meta"
    with pytest.raises(ValueError, match="The device tpu9 cannot be used"):
        encoder.encode(tiny.PROMPTS, device="tpu9")
    with pytest.raises(ValueError, match="results on the CPU"):
        encoder.encode(tiny.PROMPTS, device="meta", convert_to_numpy=True)


@pytest.mark.parametrize("name", ["0", "weight", "mlp", "encoder", "lora_A", "lora_embedding_A"])
def test_names_of_modules_cannot_name_adapters(name: str, encoder: AdaCLIP, adapter: Path) -> None:
    """peft would leave the tensors of those modules out of the other adapters."""
    with pytest.raises(AdaCLIPError, match="reserved"):
        encoder.load_adapter(adapter, name)
    assert encoder.adapters == ["default"]
