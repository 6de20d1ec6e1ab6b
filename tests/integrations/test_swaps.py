"""AdaCLIP inside codebases like MDM, MoMask and SALAD: the same vectors, out of the training's way, never mixed up."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import sys
import types
import warnings

import pytest
import torch
from adaclip_integrations import checkpoints, mdm, momask, salad, selection
from adaclip_integrations.codebases import TABLE
from adaclip_integrations.fingerprint import NOTE, OVERRIDE, TOKENS
from torch import nn

from adaclip import AdaCLIP, AdaCLIPError
from tests.adaclip.openai_reference import adapted, save_base
from tests.helpers import FLOAT32, deviation
from tests.integrations.stand_ins import SEAM, write

SHIMS = {"mdm": mdm, "momask": momask, "salad": salad}
PROMPTS = ["a person walks", "a person jumps twice, then waves slowly"]
LONG = "a person walks " * 12
WIDE = {"hidden_size": 512, "intermediate_size": 2048, "projection_dim": 512, "num_attention_heads": 8}
counter = itertools.count()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two adapters of one base, called as the field's is; as wide as ViT-B/32, one layer deep."""
    root = tmp_path_factory.mktemp("swaps")
    base = save_base(root / "bases" / "clip-vit-base-patch32", vision=True, num_hidden_layers=1, **WIDE)
    adapted(base).save_pretrained(root / "adapter")
    adapted(base, seed=7).save_pretrained(root / "other")
    return root


@pytest.fixture(scope="module")
def encoder(root):
    return AdaCLIP.from_pretrained(root / "adapter")


@pytest.fixture(scope="module")
def base_vectors(encoder):
    return AdaCLIP.from_base(encoder.base).encode(PROMPTS, output="both")


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """Each test as in a process of its own: nothing loaded, nothing chosen, `torch.save` as it was."""
    monkeypatch.setattr(
        selection, "encoder", types.FunctionType(selection.encoder.__wrapped__.__code__, vars(selection))
    )
    for name in (selection.WEIGHTS, selection.BASE, OVERRIDE, TOKENS):
        monkeypatch.delenv(name, raising=False)
    checkpoints.record_always.cache_clear()
    monkeypatch.setattr(torch, "save", torch.save)


def motion(codebase: str, root, weights: str) -> nn.Module:
    """The model of a stand-in that was patched."""
    write(codebase, root)
    SHIMS[codebase].apply(root, weights)
    spec = importlib.util.spec_from_file_location(f"stand_in_{next(counter)}", root / SEAM[codebase])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Motion()


def vectors(model: nn.Module, prompts: list[str] = PROMPTS) -> torch.Tensor:
    """What the model's text layer reads: (B, P), or of SALAD's kind (B, 77, H) with padding at zero."""
    if hasattr(model, "encode_text"):
        return model.encode_text(prompts).reshape(len(prompts), -1)
    states, mask = model.clip_model.encode_text(prompts)
    return states * mask[..., None]


def expected(encoder: AdaCLIP, codebase: str) -> torch.Tensor:
    if codebase != "salad":
        return encoder.encode(PROMPTS)
    tokens = encoder.encode(PROMPTS, output="tokens").tokens
    return nn.functional.pad(tokens, (0, 0, 0, 77 - tokens.shape[1]))


codebases = pytest.mark.parametrize("codebase", SHIMS)


@codebases
def test_a_patched_codebase_reads_adaclips_own_vectors(codebase, root, encoder, tmp_path):
    model = motion(codebase, tmp_path, str(root / "adapter"))
    found = vectors(model)
    other = AdaCLIP.from_pretrained(root / "other")
    assert deviation(found, expected(encoder, codebase)) < FLOAT32
    assert (found - expected(other, codebase)).abs().max() > 1e-3
    assert (found - expected(AdaCLIP.from_base(encoder.base), codebase)).abs().max() > 1e-3


@codebases
def test_a_live_model_reads_them_too(codebase, root, encoder, tmp_path):
    model = motion(codebase, tmp_path, str(root / "other"))
    before = vectors(model)
    assert SHIMS[codebase].swap_encoder(model, encoder) is model
    found = vectors(model)
    assert deviation(found, expected(encoder, codebase)) < FLOAT32
    assert (found - before).abs().max() > 1e-3
    assert (vectors(copy.deepcopy(model)) - found).abs().max() == 0


@codebases
def test_the_environment_selects_another_adapter(codebase, root, tmp_path, monkeypatch):
    monkeypatch.setenv(selection.WEIGHTS, str(root / "other"))
    model = motion(codebase, tmp_path, "nobody/has-this")
    assert deviation(vectors(model), expected(AdaCLIP.from_pretrained(root / "other"), codebase)) < FLOAT32


@codebases
@pytest.mark.parametrize("vanilla", ["vanilla", ""])
def test_vanilla_clip_stays_selectable(codebase, vanilla, root, encoder, tmp_path, monkeypatch):
    from adaclip import openai_clip

    theirs = openai_clip.TextTower(AdaCLIP.from_base(encoder.base))
    package = types.ModuleType("clip")
    package.load = lambda *_, **__: (theirs, None)
    package.tokenize = lambda *a, **k: openai_clip.tokenize(*a, **k, tokenizer=encoder.tokenizer)
    package.model = types.SimpleNamespace(convert_weights=lambda model: None)
    monkeypatch.setitem(sys.modules, "clip", package)
    monkeypatch.setenv(selection.WEIGHTS, vanilla)
    if codebase == "salad":
        import transformers

        monkeypatch.chdir(tmp_path)
        (tmp_path / "checkpoints").symlink_to(root / "bases")
        full = transformers.AutoModel.from_pretrained(encoder.base)
        monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda name: full)
    model = motion(codebase, tmp_path, str(root / "adapter"))
    assert deviation(vectors(model), expected(AdaCLIP.from_base(encoder.base), codebase)) < FLOAT32
    assert (vectors(model) - expected(encoder, codebase)).abs().max() > 1e-3
    assert any(name.startswith("clip_model.") for name, _ in model.named_parameters())

    # What was trained with AdaCLIP does not load under it, and the other way round.
    ours = SHIMS[codebase].swap_encoder(copy.deepcopy(model), encoder)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("clip_model.")}
    for trained, running in ((ours, model), (model, ours)):
        state = trained.state_dict()
        for key in set(state) - set(own):
            del state[key]
        with pytest.raises(AdaCLIPError, match=r"trained with .*CLIP.*now runs with"):
            running.load_state_dict(state, strict=False)


@codebases
def test_training_cannot_touch_the_encoder_and_checkpoints_hold_nothing_of_it(codebase, root, tmp_path):
    base = root / "bases" / "clip-vit-base-patch32"
    dropping = AdaCLIP.from_base(base, rank=4, alpha=4, dropout=0.5)
    with torch.no_grad():
        for name, parameter in dropping.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    model = SHIMS[codebase].swap_encoder(motion(codebase, tmp_path, str(root / "other")), dropping.train())
    assert not [name for name, _ in model.named_parameters() if name.startswith("clip_model")]
    assert not [name for name, _ in model.named_buffers() if name.startswith("clip_model")]
    assert not [key for key in model.state_dict() if key.startswith("clip_model")]
    before = vectors(model).clone()
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    layer = model.word_emb if codebase == "salad" else model.embed_text
    start = layer.weight.detach().clone()
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        layer(vectors(model)).square().mean().backward()
        optimizer.step()
        for parameter, mean in zip(model.parameters(), average.parameters(), strict=True):
            mean.data.mul_(0.9).add_(parameter.data, alpha=0.1)
    assert (layer.weight - start).abs().max() > 1e-3
    shim = model.clip_model if codebase != "salad" else model.clip_model.model
    shim.cache.clear()
    assert torch.equal(vectors(model), before)  # no dropout, no step, no average
    assert torch.equal(vectors(average), before)
    assert torch.equal(vectors(model.half().float()), before)


@codebases
def test_checkpoints_know_their_encoder(codebase, root, encoder, tmp_path, monkeypatch):
    model = motion(codebase, tmp_path / "a", str(root / "adapter"))
    torch.save({"net": model.state_dict(), "ep": 3}, tmp_path / "latest.tar")
    with open(tmp_path / "model000.pt", "wb") as file:
        torch.save(model.state_dict(), file)
    note = (tmp_path / NOTE).read_text()
    assert "latest.tar" in note
    assert "model000.pt" in note
    assert "sha256:" in note
    assert str(root) not in note
    state = torch.load(tmp_path / "latest.tar", weights_only=True)["net"]
    motion(codebase, tmp_path / "b", str(root / "adapter")).load_state_dict(state)
    monkeypatch.setenv(selection.WEIGHTS, str(root / "other"))
    other = motion(codebase, tmp_path / "c", str(root / "adapter"))
    with pytest.raises(AdaCLIPError, match=rf"trained with AdaCLIP sha256.*now runs with AdaCLIP.*{OVERRIDE}=1"):
        other.load_state_dict(state)
    monkeypatch.setenv(OVERRIDE, "1")
    with pytest.warns(UserWarning, match="trained with AdaCLIP"):
        other.load_state_dict(state)
    monkeypatch.delenv(OVERRIDE)
    with pytest.warns(UserWarning, match="does not record"):
        other.load_state_dict(dict(state))
    SHIMS[codebase].swap_encoder(other, encoder)
    other.load_state_dict(state)


def test_mdms_cut_is_said_once_and_can_be_lifted(root, encoder, tmp_path, monkeypatch):
    model = motion("mdm", tmp_path, str(root / "adapter"))
    with pytest.warns(UserWarning, match=rf"cut at 22 tokens: 1 of these 2 lose \d+ words.*{TOKENS}=77"):
        cut = vectors(model, [LONG, PROMPTS[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors(model, [LONG + "on"])
    whole = encoder.encode([LONG])
    assert (cut[0] - whole[0]).abs().max() > 1e-3
    monkeypatch.setenv(TOKENS, "77")
    for lifted in (model, mdm.swap_encoder(model, encoder)):
        assert deviation(vectors(lifted, [LONG])[0], whole[0]) < FLOAT32
    with pytest.raises(AdaCLIPError, match=f"{TOKENS}=77"):  # other prompts, in effect: not to be mixed either
        motion("mdm", tmp_path / "later", str(root / "adapter")).load_state_dict(
            before_lifting(root, tmp_path, monkeypatch)
        )
    monkeypatch.setenv(TOKENS, "many")
    with pytest.raises(ValueError, match="3 to 77"):
        vectors(model)


def before_lifting(root, tmp_path, monkeypatch) -> dict:
    kept = "77"
    monkeypatch.delenv(TOKENS)
    state = motion("mdm", tmp_path / "earlier", str(root / "adapter")).state_dict()
    monkeypatch.setenv(TOKENS, kept)
    return state


def test_repeated_prompts_are_encoded_once(encoder, tmp_path, root):
    model = motion("momask", tmp_path, str(root / "adapter"))
    seen = []
    inner = model.clip_model._hidden["model"]
    inner.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    first = vectors(model, [*PROMPTS, PROMPTS[0]])
    assert sum(rows for rows, _ in seen) == 2
    assert max(length for _, length in seen) < 77
    seen.clear()
    assert torch.equal(vectors(model, [PROMPTS[0], PROMPTS[1], PROMPTS[0]]), first)
    assert seen == []
    assert vectors(model, ["a person walks slowly"]).shape == (1, 512)
    assert len(seen) == 1


class Other(nn.Module):
    pass


@codebases
def test_other_models_are_refused_by_name(codebase, encoder, root, tmp_path):
    with pytest.raises(TypeError, match=r"Expected .* with `clip_model` \(models?/.*\.py\), got Other"):
        SHIMS[codebase].swap_encoder(Other(), encoder)
    model = motion(codebase, tmp_path, str(root / "adapter"))
    for name in ("embed_text", "cond_emb", "word_emb"):
        if hasattr(model, name):
            setattr(model, name, nn.Linear(768, 4))
    with pytest.raises(TypeError, match=r"768 numbers, and AdaCLIP .* 512"):
        SHIMS[codebase].swap_encoder(model, encoder)
    if codebase == "mdm":
        model.text_encoder_type = "bert"
        with pytest.raises(TypeError, match="encodes text with bert"):
            mdm.swap_encoder(model, encoder)


@codebases
def test_an_adapter_of_another_width_is_refused_when_it_is_loaded(codebase, tmp_path):
    narrow = adapted(save_base(tmp_path / "base", vision=True))
    narrow.save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdaCLIPError, match=r"512.*made for that model"):
        motion(codebase, tmp_path / "checkout", str(tmp_path / "adapter"))


def test_weights_that_are_not_there_are_said_when_they_are_needed(tmp_path):
    with pytest.raises(AdaCLIPError, match="nothing-here"):
        motion("momask", tmp_path, str(tmp_path / "nothing-here"))


def of_table(name: str, root, weights: str) -> tuple[nn.Module, types.ModuleType]:
    """The model of an edited stand-in of the table, and its module."""
    write(name, root)
    TABLE[name].apply(root, weights)
    file = TABLE[name].edits[0].file
    spec = importlib.util.spec_from_file_location(f"stand_in_{next(counter)}", root / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Motion(), module


def read_by(name: str, encoder: AdaCLIP) -> torch.Tensor:
    if name in ("stablemofusion", "motiondiffuse"):
        tokens = encoder.encode(PROMPTS, output="tokens").tokens
        return nn.functional.pad(tokens, (0, 0, 0, 77 - tokens.shape[1]))
    return encoder.encode(PROMPTS)


@pytest.mark.parametrize("name", TABLE)
def test_codebases_of_the_table_read_adaclips_vectors_and_guard_their_checkpoints(name, root, encoder, tmp_path):
    model, module = of_table(name, tmp_path / "a", str(root / "adapter"))
    other = AdaCLIP.from_pretrained(root / "other")

    def found() -> torch.Tensor:
        vectors = model.vectors(PROMPTS)
        mask = encoder.encode(PROMPTS, output="tokens").mask if vectors.dim() == 3 else None
        return vectors if mask is None else vectors * nn.functional.pad(mask, (0, 77 - mask.shape[1]))[..., None]

    assert deviation(found(), read_by(name, encoder)) < FLOAT32
    assert (found() - read_by(name, other)).abs().max() > 1e-3
    assert (found() - read_by(name, AdaCLIP.from_base(encoder.base))).abs().max() > 1e-3
    state = {key: value for key, value in model.state_dict().items() if "clip" not in key}
    torch.save({"net": state}, tmp_path / "net_last.pth")
    state = torch.load(tmp_path / "net_last.pth", weights_only=True)["net"]
    model.load_state_dict(state, strict=True)
    if TABLE[name].layer:
        assert TABLE[name].swap_encoder(model, other) is model
        assert deviation(found(), read_by(name, other)) < FLOAT32
    else:
        with pytest.raises(TypeError, match="outside of its model, as the global clip_model"):
            TABLE[name].swap_encoder(model, other)
        module.clip._frozen = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(selection.WEIGHTS, str(root / "other"))
            module.clip.load("ViT-B/32", "cpu")
    with pytest.raises(AdaCLIPError, match=r"trained with AdaCLIP sha256.*now runs with AdaCLIP sha256"):
        model.load_state_dict(state, strict=False)


def test_swaps_of_the_table_refuse_other_models_and_widths(encoder):
    with pytest.raises(TypeError, match=r"Expected MARDM with `clip_model` \(models/MARDM.py\)"):
        TABLE["mardm"].swap_encoder(nn.Linear(2, 2), encoder)
    model = nn.ModuleDict({"clip_model": nn.Linear(1, 1), "embed_text": nn.Linear(768, 4)})
    with pytest.raises(
        TypeError, match=r"This OmniControl reads text features of 768 numbers, and AdaCLIP .* gives 512"
    ):
        TABLE["omnicontrol"].swap_encoder(model, encoder)
