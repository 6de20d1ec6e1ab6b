"""Codebases that read DistilBERT, T5 or sentence-transformers: the launcher serves them by the same mechanism."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from adaclip_integrations import fingerprint
from adaclip_integrations.launch import main
from adaclip_integrations.replacement import NotServedError

from adaclip import AdaCLIP
from tests.helpers import FLOAT32, deviation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adaclip"))  # where tiny_towers finds its neighbour
tiny_towers = importlib.import_module("tiny_towers")

PROMPTS = ["a person walks", "a person jumps and turns left"]
# Family, name on the Hub, and how codebases load it: MDM's DistilBERT, SnapMoGen's T5, MotionLCM's Sentence-T5.
STATES = """
    import torch, transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained({name!r})
    model = transformers.{cls}.from_pretrained({name!r}).eval()
    batch = tokenizer({prompts!r}, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    torch.save((states * batch["attention_mask"][..., None], model.state_dict()), "out.pt")
"""
SENTENCES = """
    import torch
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer({name!r})
    torch.save((model.encode({prompts!r}, convert_to_tensor=True).cpu(), model.state_dict()), "out.pt")
"""
WAYS = [
    ("distilbert", "distilbert/distilbert-base-uncased", "AutoModel", STATES),
    ("distilbert", "./deps/distilbert-base-uncased", "DistilBertModel", STATES),
    ("t5", "google/t5-v1_1-base", "T5EncoderModel", STATES),
    pytest.param("sentence-t5", "sentence-transformers/sentence-t5-large", "", SENTENCES, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("family", "name", "cls", "code"), WAYS)
def test_other_families_are_served_by_their_bases_name(family, name, cls, code, tmp_path, monkeypatch, capsys):
    if code is SENTENCES:
        pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    base = tiny_towers.save_base(tmp_path / "bases" / name.rpartition("/")[2], family)
    encoder = AdaCLIP.from_base(base, rank=4, alpha=4)
    torch.manual_seed(1)
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.3)
    encoder.save_pretrained(tmp_path / "adapter")
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(code.format(name=name, cls=cls, prompts=PROMPTS)))
    main(["--weights", "adapter", "--base", str(base), "train.py"])
    found, state = torch.load(tmp_path / "out.pt")
    loaded = AdaCLIP.from_pretrained(tmp_path / "adapter", base=base)
    plain = AdaCLIP.from_base(base)

    def expected(model: AdaCLIP) -> torch.Tensor:
        if code is SENTENCES:
            return model.encode(PROMPTS)
        features = model.encode(PROMPTS, output="tokens")
        return features.tokens * features.mask[..., None]

    assert deviation(found, expected(loaded)) < FLOAT32
    assert (found - expected(plain)).abs().max() > 1e-3
    assert fingerprint.recorded_in(state) == fingerprint.of(loaded)
    assert "is served by AdaCLIP adapter" in capsys.readouterr().err
    script.write_text("import clip\nclip.load('ViT-B/32')\n")
    with pytest.raises(NotServedError, match=rf"serves {name.rpartition('/')[2]} with adapter"):
        main(["--weights", "adapter", "--base", str(base), "train.py"])
    if code is STATES:  # another one of the family, which would stay vanilla
        larger = tiny_towers.save_base(tmp_path / "larger", family)
        script.write_text(f"import transformers\ntransformers.{cls}.from_pretrained({str(larger)!r})\n")
        with pytest.raises(NotServedError, match=rf"larger'\) in train.py:2 is not replaced.*serves {Path(name).name}"):
            main(["--weights", "adapter", "--base", str(base), "train.py"])
    sys.modules.pop("train", None)
