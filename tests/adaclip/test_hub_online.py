"""The Hugging Face Hub both ways: the real client against a small local server that speaks its endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_server
import pytest
import tiny
import torch
import yaml
from hub_server import Hub

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.adapter import CONFIG, WEIGHTS
from adaclip.card import CardDetails
from adaclip.cli import main

REPO = "me/adaclip-tiny"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.connected(monkeypatch) as hub:
        yield hub


@pytest.fixture
def pushed(online: Hub, encoder: AdaCLIP) -> Hub:
    details = CardDetails("cc-by-nc-4.0", ("HumanML3D",), {"fid": 0.25})
    address = encoder.push_to_hub(REPO, token="hf_x", details=details)
    assert address.startswith(f"{online.address}/{REPO}/commit/")
    return online


def fetch(cache: Path, **options: object) -> AdaCLIP:
    return AdaCLIP.from_pretrained(REPO, cache_dir=cache, **options)


def test_what_is_pushed_comes_back(pushed: Hub, encoder: AdaCLIP, tmp_path: Path) -> None:
    loaded = fetch(tmp_path)
    assert torch.equal(loaded.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    assert loaded.details == CardDetails("cc-by-nc-4.0", ("HumanML3D",), {"fid": 0.25})
    tiny.perturb(encoder, seed=8).push_to_hub(REPO, token="hf_x")
    assert torch.equal(fetch(tmp_path).encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    assert not torch.equal(loaded.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))


def test_the_commits_of_adapter_and_base_are_recorded(pushed: Hub, encoder: AdaCLIP, tmp_path: Path) -> None:
    loaded = fetch(tmp_path / "cache")
    snapshots = next((tmp_path / "cache").glob("models--me--adaclip-tiny/snapshots"))
    commits = {path.name for path in snapshots.iterdir()}
    assert {loaded.revision, loaded.base_revision} == commits  # the base lies in the adapter's repository
    saved = loaded.save_pretrained(tmp_path / "saved", base="someone/clip")
    assert json.loads((saved / "adaclip.json").read_text())["base_revision"] == loaded.base_revision
    assert f"(commit `{loaded.base_revision}`)" in (saved / "README.md").read_text()
    assert encoder.revision is None
    assert encoder.base_revision is None


def test_a_local_base_is_pushed_along(pushed: Hub) -> None:
    files = pushed.repositories[REPO].files
    assert json.loads(files[CONFIG])["base_model_name_or_path"] == "./base"
    assert {"base/config.json", "base/model.safetensors", "base/tokenizer.json", WEIGHTS, "README.md"} <= set(files)
    assert "config.json" not in files
    assert not [name for name in files if name.endswith((".bin", ".pt"))]


def test_once_fetched_it_loads_offline(
    pushed: Hub, encoder: AdaCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fetch(tmp_path).encode(tiny.PROMPTS)
    pushed.requests.clear()
    assert torch.equal(fetch(tmp_path, local_files_only=True).encode(tiny.PROMPTS), expected)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(fetch(tmp_path).encode(tiny.PROMPTS), expected)
    assert not pushed.requests
    with pytest.raises(AdaCLIPError, match=rf"The adapter {REPO} is neither a folder nor available from the Hub") as no:
        fetch(tmp_path / "empty")
    assert "\n" not in str(no.value)


def test_an_unknown_name_is_one_sentence(online: Hub, tmp_path: Path) -> None:
    with pytest.raises(AdaCLIPError, match="The adapter me/nothing is neither a folder nor available") as no:
        AdaCLIP.from_pretrained("me/nothing", cache_dir=tmp_path)
    assert "\n" not in str(no.value)


def test_missing_weights_are_named(pushed: Hub, tmp_path: Path) -> None:
    files = pushed.repositories[REPO].files
    files["adapter_model.bin"] = files.pop(WEIGHTS)
    with pytest.raises(AdaCLIPError, match=f"{WEIGHTS} is missing"):
        fetch(tmp_path)
    assert not any("adapter_model.bin" in request for request in pushed.requests)  # not even downloaded


def test_an_interrupted_download_resumes(
    pushed: Hub, encoder: AdaCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 256)  # what is kept, is kept in chunks
    pushed.break_after = 1000
    loaded = fetch(tmp_path)
    assert torch.equal(loaded.encode(tiny.PROMPTS), encoder.encode(tiny.PROMPTS))
    assert [request for request in pushed.requests if WEIGHTS in request][-1].endswith("bytes=768-")


def test_a_damaged_download_is_refused(pushed: Hub, tmp_path: Path) -> None:
    pushed.flip_byte = True
    with pytest.raises(AdaCLIPError, match=rf"{WEIGHTS}: damaged in the download .*Delete .* and load again"):
        fetch(tmp_path)
    with pytest.raises(AdaCLIPError, match="damaged"):
        fetch(tmp_path, local_files_only=True)  # nor later, out of the cache
    pushed.flip_byte = False
    assert fetch(tmp_path / "again") is not None


def test_several_adapters_in_one_repository(online: Hub, encoder: AdaCLIP, tmp_path: Path) -> None:
    first = encoder.encode(tiny.PROMPTS)
    encoder.push_to_hub(REPO, token="hf_x", subfolder="kit")
    tiny.perturb(encoder, seed=2).push_to_hub(REPO, token="hf_x", subfolder="humanml3d")
    loaded = fetch(tmp_path, subfolder="kit")
    assert torch.equal(loaded.encode(tiny.PROMPTS), first)
    assert not list(tmp_path.rglob("humanml3d"))  # only what was asked for is downloaded
    loaded.load_adapter(REPO, "humanml3d", subfolder="humanml3d", cache_dir=tmp_path)
    assert torch.equal(loaded.encode(tiny.PROMPTS, adapter="humanml3d"), encoder.encode(tiny.PROMPTS))
    with pytest.raises(AdaCLIPError, match="bandai"):
        fetch(tmp_path, subfolder="bandai")


def test_the_command_pushes_and_reads(
    online: Hub, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    arguments = ["--token", "hf_x", "--license", "mit", "--dataset", "KIT-ML", "--dataset", "mine", "--metric", "fid=1"]
    assert main(["push", str(adapter), REPO, *arguments]) == 0
    assert capsys.readouterr().out.startswith(f"{online.address}/{REPO}/commit/")
    assert main(["info", REPO]) == 0
    told = capsys.readouterr().out
    assert "mit" in told
    assert "KIT-ML, mine" in told
    assert "fid 1" in told


def test_a_refused_push_is_one_sentence(online: Hub, encoder: AdaCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(AdaCLIPError, match=f"The adapter cannot be pushed to {REPO}: .*hf auth login") as no:
        encoder.push_to_hub(REPO, token="hf_x")
    assert "\n" not in str(no.value)


def test_the_card_carries_the_hubs_metadata(pushed: Hub) -> None:
    card = pushed.repositories[REPO].files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["library_name"] == "peft"
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["datasets"] == ["HumanML3D"]
    assert metadata["model-index"][0]["results"][0]["metrics"] == [{"type": "fid", "value": 0.25}]
    assert "{" not in re.sub(r"```.*?```", "", card.split("---\n", 2)[2], flags=re.S)  # every field was filled in


@pytest.mark.parametrize("subfolder", ["", "kit"])
def test_the_cards_snippets_run_as_written(
    online: Hub, encoder: AdaCLIP, tmp_path: Path, subfolder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", online.address)  # peft's; it is set at import
    encoder.push_to_hub(REPO, token="hf_x", subfolder=subfolder)
    card = online.repositories[REPO].files[f"{subfolder}/README.md".lstrip("/")].decode()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert len(snippets) == 3
    names: dict[str, Any] = {}
    exec(snippets[0] + snippets[1] + "first = model\n" + snippets[2], names)
    assert list(tmp_path.glob("models--me--*/snapshots/*"))  # it came from the Hub
    ids, _ = names["encoder"].tokenize(["a person slowly walks backwards"])
    for model in (names["first"], names["model"]):
        torch.testing.assert_close(model.eval()(input_ids=ids).text_embeds, names["vectors"], rtol=1e-5, atol=1e-5)
