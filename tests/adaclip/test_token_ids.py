"""Token ids of tokenizers with other padding, added tokens or no vocabulary."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from adaclip import AdaCLIP, AdaCLIPError, exports, openai_clip


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which no model was loaded."""
    monkeypatch.setattr(openai_clip, "_loaded_tokenizer", None)
    monkeypatch.delenv(openai_clip.TOKENIZER, raising=False)


def test_tokenize_without_a_model_and_a_vocabulary_is_refused(unloaded: None) -> None:
    with pytest.raises(AdaCLIPError, match="No model was loaded in this process"):
        openai_clip.tokenize(["a person walks"])


def worker(queue: multiprocessing.Queue) -> None:
    queue.put(openai_clip.tokenize(["a person walks"]).tolist())


@pytest.mark.slow
def test_tokenize_in_a_spawned_worker_uses_the_loaded_models_tokenizer(adapter: Path, unloaded: None) -> None:
    openai_clip.load(str(adapter), device="cpu")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=worker, args=(queue,))
    process.start()
    assert queue.get(timeout=120) == openai_clip.tokenize(["a person walks"]).tolist()
    process.join()


def test_tokenize_of_another_process_finds_the_tokenizer(
    adapter: Path, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai_clip.load(str(adapter), device="cpu")
    expected = openai_clip.tokenize(["a person walks"])
    monkeypatch.setattr(openai_clip, "_loaded_tokenizer", None)  # as in a spawned worker, which inherits variables only
    assert torch.equal(openai_clip.tokenize(["a person walks"]), expected)
    assert os.environ[openai_clip.TOKENIZER] == str(adapter)


@pytest.mark.parametrize("pad", ["!", "a", "walks</w>"])
def test_padding_token_that_is_text_stays_text(base: Path, tmp_path: Path, pad: str) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)
    right = AdaCLIP.from_base(base, rank=2)
    encoder = AdaCLIP.from_base(folder, rank=2)
    prompts = ["jump!", "a! b!", "walks", "!"]
    assert torch.equal(encoder.encode(prompts), right.encode(prompts))
    with torch.no_grad():
        assert torch.equal(encoder(*encoder.tokenize(prompts)).pooled, right(*right.tokenize(prompts)).pooled)
    loaded = AdaCLIP.from_pretrained(encoder.save_pretrained(tmp_path / "adapter"))
    assert torch.equal(loaded.encode(prompts), right.encode(prompts))


@pytest.mark.parametrize("form", ["hf", "text-encoder"])
def test_exports_keep_added_tokens(tmp_path: Path, form: str) -> None:
    folder = tiny.save_base(tmp_path / "base")
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<kick>", "moonwalk"])
    tokenizer.save_pretrained(folder)
    model = CLIPTextModelWithProjection.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    encoder = AdaCLIP.from_base(folder, rank=2)
    prompt = "a person does a <kick> and a moonwalk"
    ids = encoder.tokenizer(prompt)["input_ids"]
    assert {len(tokenizer) - 2, len(tokenizer) - 1} < set(ids)
    exports.write(encoder, tmp_path / "out", form)
    assert CLIPTokenizer.from_pretrained(tmp_path / "out")(prompt)["input_ids"] == ids


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", 10**7), ("vocab_size", 10**9), ("hidden_size", 10**8), ("intermediate_size", -1)],
)
def test_sizes_that_no_model_has_are_refused(base: Path, tmp_path: Path, name: str, value: int) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(AdaCLIPError, match=f"{name} is {value} in its configuration"):
        AdaCLIP.from_base(folder)
