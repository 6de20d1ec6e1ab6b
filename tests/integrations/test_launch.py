"""`adaclip-run`: unmodified scripts get AdaCLIP for CLIP, everything else as before, and nothing stays patched."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import textwrap
import types
from pathlib import Path

import pytest
import torch
from adaclip_integrations.fingerprint import NOTE, recorded_in
from adaclip_integrations.fingerprint import of as fingerprint
from adaclip_integrations.launch import main
from adaclip_integrations.replacement import CLASSES, NotServedError, replaced

from adaclip import AdaCLIP, AdaCLIPError
from tests.adaclip.openai_reference import adapted, modules_kept, save_base
from tests.helpers import FLOAT32, deviation
from tests.processes import Python

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly"]
AUTO_MAPPING = {
    "base_model_class": "CLIPTextModelWithProjection",
    "parent_library": "transformers.models.clip.modeling_clip",
}
WITH_CLIP = f"""
    import sys
    import clip
    import clip.model
    from clip import clip as inner
    from neighbour import WHERE

    assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
    model, preprocess = clip.load("ViT-B/32", device="cpu", jit=False)
    assert inner.load is clip.load and clip.available_models() == ["ViT-B/32"]
    assert isinstance(model, clip.model.CLIP)
    ids = clip.tokenize({PROMPTS!r}, truncate=True)
    import torch
    torch.save((sys.argv, WHERE, model.eval().encode_text(ids).detach()), sys.argv[1])
"""
WITH_TRANSFORMERS = f"""
    import sys
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import move_cache

    move_cache()
    name = "./checkpoints/clip-vit-base-patch32"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModel.from_pretrained(name).eval()
    ids = tokenizer({PROMPTS!r}, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    states = model.text_model(ids)
    torch.save((model.text_projection(states[1]).detach(), states[0].detach()), sys.argv[1])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An adapter whose base is called as the field's is, in a folder of its own."""
    root = tmp_path_factory.mktemp("launch")
    adapted(save_base(root / "bases" / "clip-vit-base-patch32", vision=True)).save_pretrained(root / "adapter")
    return root


@pytest.fixture(scope="module")
def encoder(root):
    return AdaCLIP.from_pretrained(root / "adapter")


@pytest.fixture
def base_vectors(encoder):
    return AdaCLIP.from_base(encoder.base).encode(PROMPTS)


def write(folder: Path, name: str, code: str) -> Path:
    (folder / name).write_text(textwrap.dedent(code))
    (folder / "neighbour.py").write_text(f"WHERE = {str(folder)!r}")
    return folder / name


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path_factory, monkeypatch):
    import transformers

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))  # others run the command too

    def patched() -> tuple:
        classes = [getattr(transformers, name) for name in CLASSES]
        mine = {k: m for k, m in sys.modules.items() if k.partition(".")[0] == "clip"}
        own = [(cls, "from_pretrained" in vars(cls), cls.from_pretrained.__func__) for cls in classes]
        own.append(hasattr(transformers.utils, "move_cache"))
        return own, mine, sys.argv[:], sys.path[:], set(Path(tempfile.gettempdir()).glob("adaclip-run-*"))

    before = patched()
    yield
    sys.modules.pop("neighbour", None)
    assert patched() == before


def test_a_script_that_imports_clip(root, encoder, base_vectors, tmp_path, capsys):
    script = write(tmp_path, "train.py", WITH_CLIP)
    main(["--weights", str(root / "adapter"), str(script), str(tmp_path / "out.pt"), "--weights", "theirs", "-m"])
    argv, where, vectors = torch.load(tmp_path / "out.pt", weights_only=True)
    assert argv == [str(script), str(tmp_path / "out.pt"), "--weights", "theirs", "-m"]
    assert where == str(tmp_path)
    assert deviation(vectors, encoder.encode(PROMPTS)) < FLOAT32
    assert (vectors - base_vectors).abs().max() > 1e-3
    said = capsys.readouterr().err
    assert said.count("clip.load('ViT-B/32') is served by AdaCLIP") == 1


def test_a_script_that_uses_transformers(root, encoder, base_vectors, tmp_path, capsys):
    script = write(tmp_path, "train.py", WITH_TRANSFORMERS)
    main(["--weights", str(root / "adapter"), str(script), str(tmp_path / "out.pt")])
    pooled, states = torch.load(tmp_path / "out.pt", weights_only=True)
    expected = encoder.encode(PROMPTS, output="both")
    assert deviation(pooled, expected.pooled) < FLOAT32
    assert (pooled - base_vectors).abs().max() > 1e-3
    length = expected.mask.shape[1]
    assert deviation(states[:, :length] * expected.mask[..., None], expected.tokens) < FLOAT32
    said = capsys.readouterr().err
    assert "AutoModel.from_pretrained('./checkpoints/clip-vit-base-patch32') is served" in said
    assert "AutoTokenizer.from_pretrained" in said


@torch.no_grad()
def test_every_class_is_served_and_other_models_are_not(root, encoder, base_vectors, tmp_path):
    import transformers

    other = save_base(tmp_path / "other", vision=True, seed=5)
    ids = encoder.tokenize(PROMPTS)[0]

    def vectors(name: str) -> dict[str, torch.Tensor]:
        full = transformers.CLIPModel.from_pretrained(name)
        assert isinstance(transformers.AutoModel.from_pretrained(name), transformers.CLIPModel)
        text = transformers.CLIPTextModel.from_pretrained(pretrained_model_name_or_path=name)
        projected = transformers.CLIPTextModelWithProjection.from_pretrained(name, use_safetensors=True)
        tokens = transformers.CLIPTokenizer.from_pretrained(name)(PROMPTS, padding=True, return_tensors="pt")
        assert torch.equal(tokens["input_ids"], ids)
        return {
            "full": full.text_projection(full.text_model(ids).pooler_output),
            "text": full.text_projection(text(ids).pooler_output),
            "projected": projected(ids).text_embeds,
        }

    with replaced(encoder, "A"):
        for name in ("openai/clip-vit-base-patch32", "./nowhere/clip-vit-base-patch32/"):
            assert all(deviation(v, encoder.encode(PROMPTS)) < FLOAT32 for v in vectors(name).values())
        with pytest.raises(NotServedError, match=rf"CLIPModel.*{other}.*in tests/.*test_launch.py:.*--keep"):
            vectors(str(other))
    with replaced(encoder, "A", keep=("test_launch.py",)):
        theirs = AdaCLIP.from_base(other).encode(PROMPTS)
        assert all(deviation(v, theirs) < FLOAT32 for v in vectors(str(other)).values())
        assert (theirs - encoder.encode(PROMPTS)).abs().max() > 1e-3
    assert all(deviation(v, base_vectors) < FLOAT32 for v in vectors(encoder.base).values())


@torch.no_grad()
def test_those_who_adapt_the_base_still_find_it(root, encoder, tmp_path):
    from peft import AutoPeftModel
    from transformers import CLIPTextModelWithProjection

    for_peft = shutil.copytree(root / "adapter", tmp_path / "adapter")  # peft wants a base that does not depend on it
    config = json.loads((for_peft / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": encoder.base, "auto_mapping": AUTO_MAPPING}
    (for_peft / "adapter_config.json").write_text(json.dumps(config))
    with replaced(encoder, "A"):
        again = AdaCLIP.from_pretrained(root / "adapter").encode(PROMPTS)
        base = AdaCLIP.from_base(encoder.base).encode(PROMPTS)
        plain = AutoPeftModel.from_pretrained(for_peft)
        served = CLIPTextModelWithProjection.from_pretrained(encoder.base)
    assert torch.equal(again, encoder.encode(PROMPTS))  # and is not adapted twice
    ids = encoder.tokenize(PROMPTS)[0]
    assert deviation(plain(input_ids=ids).text_embeds, again) < FLOAT32
    assert deviation(served(ids).text_embeds, again) < FLOAT32
    assert (again - base).abs().max() > 1e-3


def test_an_installed_clip_is_covered_and_comes_back(encoder):
    installed, deeper = types.ModuleType("clip"), types.ModuleType("clip.simple_tokenizer")
    with modules_kept("clip"):
        sys.modules.update({"clip": installed, "clip.simple_tokenizer": deeper})
        with replaced(encoder, "A"):
            import clip

            assert clip is not installed
            assert sys.modules["clip.simple_tokenizer"] is not deeper
            assert clip.simple_tokenizer is sys.modules["clip.simple_tokenizer"]
            with pytest.raises(ModuleNotFoundError):
                import clip.other
            assert importlib.util.find_spec("clip") is not None
        assert sys.modules["clip"] is installed
        assert sys.modules["clip.simple_tokenizer"] is deeper


def test_a_module(root, encoder, tmp_path, monkeypatch):
    package = tmp_path / "launched_pkg"
    package.mkdir()
    write(package, "__init__.py", "")
    write(package, "train.py", WITH_CLIP)
    write(tmp_path, "unused.py", "")
    monkeypatch.chdir(tmp_path)
    main(["--base", encoder.base, "--weights", str(root / "adapter"), "-m", "launched_pkg.train", "out.pt", "--steps"])
    argv, where, vectors = torch.load(tmp_path / "out.pt", weights_only=True)
    assert argv == [str(package / "train.py"), "out.pt", "--steps"]
    assert where == str(tmp_path)  # the working directory, where python -m looks
    assert deviation(vectors, encoder.encode(PROMPTS)) < FLOAT32
    for name in ("launched_pkg", "launched_pkg.train"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("code", ["import clip; raise SystemExit(3)", "import clip; raise KeyError('theirs')"])
def test_a_script_that_fails_fails_as_itself(code, root, tmp_path, capsys):
    script = write(tmp_path, "train.py", code)
    with pytest.raises((SystemExit, KeyError)) as caught:
        main(["--weights", str(root / "adapter"), str(script)])
    assert caught.value.args in ((3,), ("theirs",))
    assert "nothing was replaced" in capsys.readouterr().err


def test_errors_are_one_line(root, tmp_path, capsys):
    script = write(tmp_path, "train.py", "import clip; clip.load('RN50')")
    weights = ["--weights", str(root / "adapter")]
    with pytest.raises(RuntimeError, match=r"RN50.*serves ViT-B/32"):
        main([*weights, str(script)])
    with pytest.raises(SystemExit, match="no such script"):
        main([*weights, str(tmp_path / "nothing.py")])
    with pytest.raises(SystemExit, match=r"adaclip-run: .*no such adapter folder"):
        main(["--weights", str(tmp_path / "nothing"), str(script)])
    for incomplete in (weights, [str(script)], [*weights, "-m"], []):
        with pytest.raises(SystemExit) as caught:
            main(incomplete)
        assert caught.value.code == 2
    capsys.readouterr()


def test_the_name_follows_the_base(encoder):
    import copy

    large = copy.copy(encoder)
    large.base = "openai/clip-vit-large-patch14"
    with replaced(large, "A"):
        import clip

        assert clip.available_models() == ["ViT-L/14"]
        with pytest.raises(RuntimeError, match="ViT-L/14"):
            clip.load("ViT-B/32")
        vectors = clip.load("/models/ViT-L-14.pt", "cpu")[0].encode_text(clip.tokenize(PROMPTS))
        assert deviation(vectors, encoder.encode(PROMPTS)) < FLOAT32


THEIR_PACKAGE = """
    from torch import nn

    class Text:
        @staticmethod
        def load(version):
            raise OSError("a download that does not work here")

    def make_encoder(*, width):
        raise OSError("another")
"""
WITH_A_SEAM = f"""
    import sys
    import torch
    from their_text import Text, make_encoder

    one, two = Text.load("v2"), make_encoder(width=512)
    torch.save((one.encode_text({PROMPTS!r}), two({PROMPTS!r})), sys.argv[1])
    model = torch.nn.ModuleDict({{"clip_model": one, "net": torch.nn.Linear(2, 2)}})
    torch.save({{"net": model.state_dict()}}, sys.argv[1] + ".tar")
"""


@pytest.fixture
def their_script(tmp_path):
    write(tmp_path, "their_text.py", THEIR_PACKAGE)
    yield write(tmp_path, "train.py", WITH_A_SEAM)
    sys.modules.pop("their_text", None)


def test_a_seam_that_is_named(root, encoder, base_vectors, their_script, tmp_path, capsys):
    seams = ["--seam", "their_text:Text.load", "--seam", "their_text:make_encoder"]
    out = tmp_path / "out.pt"
    main(["--weights", str(root / "adapter"), *seams, str(their_script), str(out)])
    for vectors in torch.load(out, weights_only=True):
        assert deviation(vectors, encoder.encode(PROMPTS)) < FLOAT32
        assert (vectors - base_vectors).abs().max() > 1e-3
    assert "the seam is served by AdaCLIP" in capsys.readouterr().err
    checkpoint = torch.load(tmp_path / "out.pt.tar", weights_only=True)
    assert list(checkpoint["net"]) == ["net.weight", "net.bias"]
    assert recorded_in(checkpoint) == fingerprint(encoder)
    assert json.loads((tmp_path / NOTE).read_text()) == {"out.pt.tar": fingerprint(encoder)}
    their_text = sys.modules["their_text"]
    with pytest.raises(OSError, match="download"):
        their_text.Text.load("v2")
    with pytest.raises(OSError, match="another"):
        their_text.make_encoder(width=1)


@pytest.mark.parametrize(
    ("seam", "says"),
    [
        ("their_text", "expected module:attribute"),
        ("their_texts:load", "no module their_texts"),
        ("their_text:Text.fetch", "Text has no fetch"),
        ("their_text:nn.functional", "is module, expected a class or function"),
    ],
)
def test_a_seam_that_is_not_there(seam, says, root, their_script, tmp_path):
    with pytest.raises(SystemExit, match=rf"adaclip-run: --seam {seam}: .*{says}"):
        main(["--weights", str(root / "adapter"), "--seam", seam, str(their_script), str(tmp_path / "out.pt")])
    assert not (tmp_path / "out.pt").exists()


TRAINS = """
    import sys
    import clip
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.clip_model, _ = clip.load("ViT-B/32", "cpu")
            self.net = torch.nn.Linear(2, 2)

    net = Net()
    if len(sys.argv) > 2:
        net.load_state_dict(torch.load(sys.argv[2]))
    torch.save(net.state_dict(), sys.argv[1])
"""


def test_what_another_encoder_trained_is_not_loaded(root, encoder, tmp_path, monkeypatch):
    adapted(encoder.base, seed=9).save_pretrained(tmp_path / "other")
    script = write(tmp_path, "train.py", TRAINS)
    ours, other = ["--weights", str(root / "adapter")], ["--weights", str(tmp_path / "other")]
    first, second = str(tmp_path / "1.pt"), str(tmp_path / "2.pt")
    main([*ours, str(script), first])
    main([*ours, str(script), second, first])
    assert [key for key in torch.load(first) if "clip" in key] == []
    with pytest.raises(AdaCLIPError, match="was trained with AdaCLIP sha256:"):
        main([*other, str(script), second, first])
    with pytest.warns(UserWarning, match="was trained with AdaCLIP"):
        main([*other, "--allow-other-encoder", str(script), second, first])
    assert "ADACLIP_ALLOW_OTHER_ENCODER" not in os.environ
    assert "ADACLIP_WEIGHTS" not in os.environ


def test_transformers_models_are_guarded_too(encoder, tmp_path):
    import transformers

    name = "openai/clip-vit-base-patch32"
    with replaced(encoder, "A"):
        ours = torch.nn.ModuleDict({"text": transformers.CLIPTextModel.from_pretrained(name)})
    with replaced(adapted(encoder.base, seed=9), "B"):
        theirs = torch.nn.ModuleDict({"text": transformers.CLIPTextModel.from_pretrained(name)})
    assert recorded_in(ours.state_dict()) == fingerprint(encoder)
    ours.load_state_dict(ours.state_dict())
    with pytest.raises(AdaCLIPError, match="was trained with"):
        ours.load_state_dict(theirs.state_dict())


def test_old_names_are_there_on_request(root, tmp_path):
    script = write(tmp_path, "train.py", "import clip, numpy as np; clip.load('ViT-B/32', 'cpu'); np.float(1)")
    with pytest.raises(AttributeError):
        main(["--weights", str(root / "adapter"), str(script)])
    main(["--compat", "--weights", str(root / "adapter"), str(script)])


@pytest.mark.slow
def test_as_a_command(root, encoder, tmp_path):
    script = write(tmp_path, "train.py", WITH_CLIP + "\n    sys.exit(7)\n")
    command = ("-m", "adaclip_integrations.launch", "--weights", str(root / "adapter"), "train.py", "out.pt")
    done = Python(*command, folder=script.parent).done()
    assert done.returncode == 7, done.stderr
    assert "clip.load('ViT-B/32') is served" in done.stderr
    assert done.stdout == ""
    argv, _, vectors = torch.load(tmp_path / "out.pt", weights_only=True)
    assert argv == ["train.py", "out.pt"]
    assert deviation(vectors, encoder.encode(PROMPTS)) < FLOAT32
