"""A generator on the Hub: pushed whole, fetched whole, with a card whose lines run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.card import CardDetails
from adaqf_train.errors import ArtefactError
from adaqf_train.generators.base import MotionGenerator
from tests.adaclip.hub_server import Hub, connected
from tests.helpers import PROMPTS

REPO = "me/motions"
FILES = {
    *("README.md", "config.json", "model.safetensors"),
    *("digests.json", "encoder/digests.json", "base/digests.json"),
    *(f"encoder/{name}" for name in ("README.md", "adaclip.json", "adapter_config.json", "adapter_model.safetensors")),
    *(f"{part}/{name}" for part in ("encoder", "base") for name in ("tokenizer.json", "tokenizer_config.json")),
    *("base/config.json", "base/model.safetensors"),
}


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with connected(monkeypatch) as hub:
        yield hub


def fetch(cache: Path, **options: object) -> MotionGenerator:
    return MotionGenerator.from_pretrained(REPO, cache_dir=cache, **options)


def test_what_is_pushed_comes_back_and_stays_in_the_cache(online, generator, tmp_path, monkeypatch):
    address = generator.push_to_hub(REPO, token="hf_x", private=True)
    assert address.startswith(f"{online.address}/{REPO}/commit/")
    assert set(online.repositories[REPO].files) == FILES
    expected = generator.generate(PROMPTS, seconds=2.0)
    for options in ({}, {"local_files_only": True}):
        for a, b in zip(expected, fetch(tmp_path, **options).generate(PROMPTS, seconds=2.0), strict=True):
            np.testing.assert_array_equal(a, b)
    encoder = AdaCLIP.from_pretrained(REPO, subfolder="encoder", cache_dir=tmp_path / "other")
    np.testing.assert_array_equal(encoder.encode(PROMPTS), generator.encoder.encode(PROMPTS))


def test_a_fetched_generator_can_be_saved_elsewhere(online, generator, tmp_path):
    generator.push_to_hub(REPO, token="hf_x")
    folder = fetch(tmp_path / "cache").save_pretrained(tmp_path / "mine")
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    again = MotionGenerator.from_pretrained(folder)
    np.testing.assert_array_equal(again.generate(PROMPTS[:1])[0], generator.generate(PROMPTS[:1])[0])


def test_the_card_says_what_it_is_and_its_lines_run(online, generator, tmp_path):
    details = CardDetails("cc-by-nc-4.0", ("HumanML3D",), {"fid": 0.25})
    generator.push_to_hub(REPO, token="hf_x", details=details)
    card = online.repositories[REPO].files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["model-index"][0]["results"][0]["metrics"] == [{"type": "fid", "value": 0.25}]
    assert "base_model" not in metadata  # it travels along
    assert "22 joints at 20 frames a second, 0.2 to 9.8 seconds" in card
    text = re.sub(r"```.*?```", "", card.split("---\n", 2)[2], flags=re.S)
    assert "{" not in text
    folder = generator.save_pretrained(tmp_path / "adaqf", details=details)
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.S)
    assert len(snippets) == 2
    found: dict = {}
    for snippet in snippets:
        exec(snippet.replace("path/or/hub-id/of/this/generator", str(folder)), found)
    assert found["joints"].shape == (80, 22, 3)
    assert found["longer"].shape == (160, 22, 3)
    assert found["encoder"].details == details


def test_a_base_of_the_hub_is_named_and_not_copied(generator, tmp_path):
    generator.encoder.base = "openai/clip-vit-base-patch32"
    folder = generator.save_pretrained(tmp_path / "adaqf")
    assert not (folder / "base").exists()
    metadata = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert metadata["base_model"] == "openai/clip-vit-base-patch32"
    with pytest.raises(AdaCLIPError, match="The base CLIP model openai/clip-vit-base-patch32 cannot be loaded"):
        MotionGenerator.from_pretrained(folder, local_files_only=True)


def test_damaged_and_missing_downloads_are_refused_in_one_sentence(online, generator, tmp_path):
    with pytest.raises(AdaCLIPError, match=f"The generator {REPO} is neither a folder nor available") as no:
        fetch(tmp_path)
    assert "\n" not in str(no.value)
    generator.push_to_hub(REPO, token="hf_x")
    with pytest.raises(AdaCLIPError, match="neither a folder nor available"):
        fetch(tmp_path, local_files_only=True)
    online.flip_byte = True
    with pytest.raises(AdaCLIPError, match="damaged in the download"):
        fetch(tmp_path)


def test_a_repository_of_something_else_is_named(online, generator, tmp_path):
    generator.encoder.push_to_hub(REPO, token="hf_x")
    with pytest.raises(ArtefactError, match=r"config.json: missing. Give the folder of a complete generator"):
        fetch(tmp_path)


def test_a_refused_push_is_one_sentence(online, generator, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(AdaCLIPError, match=f"The generator cannot be pushed to {REPO}: .*hf auth login"):
        generator.push_to_hub(REPO, token="hf_x")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(ArtefactError, match=f"{name}: no such folder"):
        MotionGenerator.from_pretrained(name)
