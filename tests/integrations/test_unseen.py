"""Programs that load CLIP in other ways than the known codebases: each reads AdaCLIP, or stops with a reason."""

from __future__ import annotations

import textwrap

import pytest
import torch
from adaclip_integrations import IntegrationError
from adaclip_integrations.launch import main

from adaclip import AdaCLIP, exports
from tests.adaclip.openai_reference import adapted, modules_kept, save_base
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly"]
BASE = "openai/clip-vit-base-patch32"
HEADER = f"import torch\nfrom torch import nn\nPROMPTS = {PROMPTS!r}\nBASE = {BASE!r}\n"
POOLED = "\ntorch.save(vectors.detach(), 'out.pt')\n"
HF = """
        tokenizer = transformers.AutoTokenizer.from_pretrained({name})
        batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
        vectors = {read}
        """
# A text tower as people copy it from OpenAI's code, with its names.
TOWER = """
    class Text(nn.Module):
        def __init__(self, vocabulary, width):
            super().__init__()
            self.token_embedding = nn.Embedding(vocabulary, width)
            self.ln_final = nn.LayerNorm(width)

        def forward(self, ids):
            return self.ln_final(self.token_embedding(ids)).mean(1)
"""
# name: (code, further files)
SERVED = {
    "from clip import load": (
        """
        from clip import load, tokenize
        model, _ = load("ViT-B/32")
        vectors = model.encode_text(tokenize(PROMPTS))
        """,
        {},
    ),
    "under another name, lazily, in a thread": (
        """
        import concurrent.futures

        def vectors_of(prompts):
            import clip.clip as openai
            return openai.load("ViT-B/32", "cpu", False)[0].encode_text(openai.tokenize(prompts))

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            vectors = pool.submit(vectors_of, PROMPTS).result()
        """,
        {},
    ),
    "a global, in DataParallel, under autocast and inference mode": (
        """
        import clip
        clip_model = nn.DataParallel(clip.load("ViT-B/32")[0])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            clip_model(clip.tokenize(PROMPTS))
        vectors = clip_model.module.encode_text(clip.tokenize(PROMPTS))
        nn.Linear(vectors.shape[1], 2)(vectors).sum().backward()
        """,
        {},
    ),
    "a subclass that reads OpenAI's parts, compiled": (
        """
        from text import Encoder
        vectors = torch.compile(Encoder(), backend="eager")(PROMPTS)
        """,
        {
            "text": """
            import clip
            from torch import nn

            class Encoder(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.clip, _ = clip.load("ViT-B/32", "cpu")

                def forward(self, prompts):
                    return self.clip.encode_text(clip.tokenize(prompts))
            """
        },
    ),
    "a copy of OpenAI's package in the checkout": (
        """
        import sys
        sys.path.insert(0, "third_party")
        import clip
        vectors = clip.load("ViT-B/32")[0].encode_text(clip.tokenize(PROMPTS))
        """,
        {"third_party__clip": "raise SystemExit('the real one')"},
    ),
    "CLIPModel by keyword": (
        """
        import transformers
        model = transformers.CLIPModel.from_pretrained(pretrained_model_name_or_path=BASE, local_files_only=True)
        """
        + HF.format(name="pretrained_model_name_or_path=BASE", read="model.get_text_features(**batch).pooler_output"),
        {},
    ),
    "CLIPTextModelWithProjection from a path": (
        """
        import pathlib, transformers
        from transformers import CLIPTextModelWithProjection
        folder = pathlib.Path("deps") / "clip-vit-base-patch32"
        model = CLIPTextModelWithProjection.from_pretrained(folder, torch_dtype=torch.float32)
        """
        + HF.format(name="str(folder) + '/'", read="model(**batch).text_embeds"),
        {},
    ),
    "a subclass of a class of transformers": (
        """
        import transformers

        class Text(transformers.CLIPTextModelWithProjection):
            def read(self, batch):
                return self(**batch).text_embeds

        model = Text.from_pretrained(BASE)
        """
        + HF.format(name="BASE", read="model.read(batch)"),
        {},
    ),
}
STOPS = {
    "another name": (
        "import clip\nclip.load('ViT-B-32-quickgelu')",
        r"clip\.load\('ViT-B-32-quickgelu'\) in train\.py:\d+",
    ),
    "open_clip": (
        """
        import open_clip
        model, _, _ = open_clip.create_model_and_transforms("ViT-B-32", pretrained="openai")
        """,
        r"Text\.load_state_dict in train\.py:\d+.*--seam",
    ),
    "a copy of the class, with weights of the stand-in": (
        textwrap.dedent(TOWER)
        + """
import clip
model = Text(VOCABULARY, WIDTH)
model.load_state_dict(clip.load("ViT-B/32")[0].state_dict(), strict=False)
        """,
        r"Text\.load_state_dict in train\.py:\d+ loads weights into a CLIP that the program builds",
    ),
    "OpenAI's class": (
        "from clip.model import CLIP\nCLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12)",
        "builds OpenAI's class",
    ),
    "an archive of OpenAI's": ("torch.jit.load('ViT-B-32.pt')", r"torch\.jit\.load in train\.py:\d+"),
    "transformers without from_pretrained": (
        """
        import transformers
        config = transformers.CLIPTextConfig.from_pretrained("deps/text")
        transformers.CLIPTextModel(config).load_state_dict({}, strict=False)
        """,
        r"CLIPTextModel\.load_state_dict in train\.py:\d+",
    ),
    "AutoModel from a folder of another name": (
        """
        import transformers
        transformers.AutoModel.from_pretrained("deps/text")
        """,
        r"AutoModel\.from_pretrained\('deps/text'\) in train\.py:\d+ is not replaced",
    ),
    "sentence-transformers": (
        """
        from sentence_transformers import SentenceTransformer
        SentenceTransformer("deps/text", device="cpu")
        """,
        r"from_pretrained\('deps/text'\) in train\.py:\d+ is not replaced",
    ),
}
OPEN_CLIP = (
    textwrap.dedent(TOWER)
    + """
def create_model_and_transforms(name, pretrained=None):
    model = Text(VOCABULARY, WIDTH)
    model.load_state_dict(model.state_dict())
    return model, None, None
"""
)


def named(cases: dict) -> list:
    """Names of cases; those whose imports take seconds are slow tests."""
    slow = ("compiled", "sentence-transformers")
    return [pytest.param(name, marks=[pytest.mark.slow] if name.endswith(slow) else []) for name in cases]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("unseen")
    base = save_base(root / "deps" / "clip-vit-base-patch32", vision=True)
    adapted(base).save_pretrained(root / "adapter")
    save_base(root / "deps" / "text", vision=True, seed=4)
    exports.to_openai(AdaCLIP.from_base(base), root / "ViT-B-32.pt")
    return root


@pytest.fixture
def launch(root, tmp_path, monkeypatch):
    """launch(code, files): runs a program with the adapter, in a folder with the models."""
    encoder = AdaCLIP.from_pretrained(root / "adapter")
    config = encoder.text_model.config
    header = f"{HEADER}VOCABULARY, WIDTH = {config.vocab_size}, {config.hidden_size}\n"

    def run(code: str, files: dict[str, str]) -> torch.Tensor:
        for name, content in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(content))
        (tmp_path / "train.py").write_text(header + textwrap.dedent(code) + POOLED)
        main(["--weights", str(root / "adapter"), "train.py"])
        return torch.load(tmp_path / "out.pt")

    for name in ("deps", "ViT-B-32.pt"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "open_clip.py").write_text(f"from torch import nn\n{header}{OPEN_CLIP}")
    monkeypatch.chdir(tmp_path)
    with modules_kept("clip"), modules_kept("open_clip"), modules_kept("text"):
        yield run


@pytest.mark.parametrize("name", named(SERVED))
def test_other_ways_of_loading_clip_read_adaclip(name, launch, root):
    code, files = SERVED[name]
    found = launch(code, files)
    assert deviation(found, AdaCLIP.from_pretrained(root / "adapter").encode(PROMPTS)) < FLOAT32
    base = AdaCLIP.from_base(root / "deps" / "clip-vit-base-patch32").encode(PROMPTS)
    assert (found - base).abs().max() > 1e-3


@pytest.mark.parametrize("name", named(STOPS))
def test_a_clip_that_cannot_be_served_stops_the_program(name, launch):
    if name == "sentence-transformers":
        pytest.importorskip("sentence_transformers")
    code, says = STOPS[name]
    with pytest.raises(IntegrationError, match=says):
        launch(code, {})
