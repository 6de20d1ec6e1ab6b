"""Token ids and pooled vectors are OpenAI CLIP's: its own package is the judge, wrong weights are the control."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from openai_reference import captions, openai_package, real_tokenizer, scramble, text_config

from adaclip import AdaCLIP, openai_clip
from adaclip.exports import openai_weights
from tests.helpers import FLOAT32, deviation

AWKWARD = [
    "",
    " ",
    "\n\t \r\n",
    "a person’s “left” hand ‘waves’ – slowly…",  # curly quotes, dashes
    "walk &amp; run",
    "walk &amp;amp; run",
    "walk &amp;amp;amp; run",
    "&lt;b&gt;jump&lt;/b&gt; &quot;twice&quot; &#39;now&#39; &nbsp; end",
    "jumps 🏃‍♂️🏃 and 👍🏽 waves 🇩🇪",
    "schÃ¶n, cafÃ©, itâ€™s",  # mojibake
    "人が歩いている。一个人在走路 사람이 걷는다",
    "человек идёт Ελλάδα מהלך انسان",
    "walks\x00 \x07runs\x1b[31m\x7f \u200bjumps\ufeff\u2028twice",
    "it's they've we'll he'd I'm isn't you're IT'S",
    "1234567890 3.14 1,000 ½ ² ① 10° 5km/h",
    "ＦＵＬＬ　ＷＩＤＴＨ ﬁnd ﬂow",
    "e\u0301 n\u0303 A\u030a",  # combining marks
    "İstanbul STRAẞE ǅ",
    "<|startoftext|> walk <|endoftext|> run",
    "!!!??? ... --- ___ ((())) [[[]]] {{}} @#$%^&*",
    "a" * 300,
    "walks_and-runs/then\\jumps~twice",
    "𝕬 𝓅𝑒𝓇𝓈𝑜𝓃 𝟏𝟐",
    "word " * 500,
]

TEXTS = ["a person walks forward, slowly", "a man waves with his left hand twice", *AWKWARD]

# Python lowers a word's last capital sigma to ς, the tokenizers library to σ.
FINAL_SIGMA = "ο ΟΔΥΣΣΕΥΣ περπατάει"

LONG_ONES = pytest.mark.filterwarnings("ignore:.*exceed 77 tokens")


def openai_ids(clip, text: str) -> list[int]:
    """The ids OpenAI's tokenizer gives, of any length, between start and end token."""
    return [49406, *clip.clip._tokenizer.encode(text), 49407]


def our_ids(text: str) -> list[int]:
    ids = openai_clip.tokenize(text, context_length=2000, tokenizer=real_tokenizer())[0]
    return ids[: int(ids.argmax()) + 1].tolist() if "<|endoftext|>" not in text else ids[ids > 0].tolist()


def differing(clip, texts: list[str], encode: Callable[[str], list[int]] = our_ids) -> list[str]:
    return [text for text in texts if encode(text) != openai_ids(clip, text)]


def test_vocabulary_is_clips():
    assert len(real_tokenizer()) == 49408
    assert real_tokenizer().get_vocab() == openai_package().clip._tokenizer.encoder


def test_awkward_strings_give_the_same_ids():
    assert differing(openai_package(), [*AWKWARD, FINAL_SIGMA]) == []


def test_control_cleaning_is_what_makes_them_the_same():
    raw = differing(openai_package(), AWKWARD, lambda text: real_tokenizer()(text)["input_ids"])
    assert {text for text in AWKWARD if "&amp;" in text or "Ã" in text or "’" in text} <= set(raw)
    assert our_ids("a person walks left") != our_ids("a person walks right")


@LONG_ONES
def test_adaclip_tokenizes_as_openai_does_up_to_padding():
    from adaclip.text import tokenize

    clip = openai_package()
    ids, mask = tokenize(real_tokenizer(), AWKWARD)
    theirs = clip.tokenize(AWKWARD, truncate=True)
    width = ids.shape[1]
    assert torch.equal(ids.where(mask, 0).int(), theirs[:, :width])
    assert not theirs[:, width:].any()
    assert not torch.equal(ids.where(mask, 0).int(), theirs.roll(1, 0)[:, :width])


@pytest.mark.data
def test_all_captions_give_the_same_ids():
    texts = captions()
    assert len(texts) == 6134
    clip = openai_package()
    assert differing(clip, texts) == []
    assert len(differing(clip, texts, lambda text: our_ids(text + " now"))) == len(texts)


@pytest.fixture(scope="module")
def full_base(tmp_path_factory):
    """The folder of a random text tower as large as ViT-B/32's: 63 million weights."""
    from transformers import CLIPTextModelWithProjection

    tokenizer = real_tokenizer()
    sizes = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "projection_dim": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
    }
    folder = tmp_path_factory.mktemp("full") / "base"
    torch.manual_seed(0)
    model = CLIPTextModelWithProjection(text_config(tokenizer, 49407, **sizes))
    scramble(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapted(base) -> AdaCLIP:
    """The base with an adapter of random weights, always the same."""
    torch.manual_seed(1)
    encoder = AdaCLIP.from_base(base).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return encoder


@pytest.fixture(scope="module")
def openais(full_base):
    """OpenAI's model of the base with its adapter, and the vectors that it gives."""
    clip = openai_package()
    state = openai_weights.to_openai(adapted(full_base).merged().state_dict())
    theirs = clip.model.CLIP(512, 32, 0, 64, 32, 77, 49408, 512, 8, 12)
    theirs.load_state_dict(state | {k: v for k, v in theirs.state_dict().items() if k not in state})
    with torch.no_grad():
        return theirs.eval(), theirs.encode_text(clip.tokenize(TEXTS, truncate=True))


@LONG_ONES
@pytest.mark.slow
@pytest.mark.parametrize("eos", [2, 49407])
@torch.no_grad()
def test_pooled_vectors_equal_openais(eos, full_base, openais):
    """OpenAI's configurations on the Hub call the end token 2, which is wrong; both kinds must load alike."""
    config = full_base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": eos}))
    theirs, expected = openais
    clip, encoder = openai_package(), adapted(full_base)
    assert expected.abs().mean() > 0.05  # a difference of 1e-5 means something
    served = openai_clip.serve(encoder, "cpu")
    ids = openai_clip.tokenize(TEXTS, truncate=True, tokenizer=encoder.tokenizer)
    ours = encoder.encode(TEXTS)
    assert deviation(ours, expected) < FLOAT32
    assert deviation(served.encode_text(ids), expected) < FLOAT32

    theirs.transformer.resblocks[11].attn.in_proj_bias[1024:] += 0.01  # the control: one bias, one layer, values only
    wrong = theirs.encode_text(clip.tokenize(TEXTS[:2], truncate=True))
    theirs.transformer.resblocks[11].attn.in_proj_bias[1024:] -= 0.01
    assert (ours[:2] - wrong).abs().max() > 1e-3
