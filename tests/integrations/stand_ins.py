"""Small codebases written for the tests, with the seams of MDM, MoMask and SALAD and nothing else of them."""

from __future__ import annotations

from pathlib import Path

POOLED = """\
from torch import nn
import clip  # OpenAI's
import torch


class Motion(nn.Module):
    def __init__(self, dataset="humanml"):
        super().__init__()
        self.dataset = dataset
        self.before = nn.Linear(3, 3)
        self.clip_model = self.read_text()
        self.encode_text = self.vectors
        self.embed_text = self.cond_emb = nn.Linear(512, 4)

    def read_text(self):
        model, _ = clip.load("ViT-B/32", device="cpu", jit=False)
        clip.model.convert_weights(model)
        for parameter in model.parameters():
            parameter.requires_grad = False
        return model.eval()

    def vectors(self, texts):
        ids = clip.tokenize(texts, {arguments}truncate=True)
        ids = nn.functional.pad(ids, (0, 77 - ids.shape[1] if ids.shape[1] < 77 else 0))
        return self.clip_model.encode_text(ids).float(){shape}

    def forward(self, texts):
        return self.embed_text(self.encode_text(texts))
"""

EVALUATION = """\
import os

import clip

FOLDER = os.curdir
"""

STATES = """\
import torch
from torch import nn

from transformers import AutoModel, AutoTokenizer
from transformers.utils import move_cache


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        move_cache()
        self.tokenizer = AutoTokenizer.from_pretrained("./checkpoints/clip-vit-base-patch32")
        self.model = AutoModel.from_pretrained("./checkpoints/clip-vit-base-patch32")
        self.max_length = self.tokenizer.model_max_length
        self.model.eval()

    @torch.no_grad()
    def encode_text(self, text):
        batch = self.tokenizer(
            text, padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        ids, mask = batch.input_ids.to(self.model.device), batch.attention_mask.bool()
        return self.model.text_model(ids).last_hidden_state, mask


class Motion(nn.Module):
    def __init__(self):
        super().__init__()
        self.clip_model = Encoder()
        self.word_emb = nn.Linear(512, 4)
"""

PARTS = """\
import clip
import torch
from torch import nn


class Motion(nn.Module):
    def __init__(self):
        super().__init__()
        self.{holder}, _ = clip.load("ViT-B/32", "cpu")
        self.{layer} = nn.Linear(512, 4)

    def vectors(self, texts):
        ids = clip.tokenize(texts, truncate=True)
        with torch.no_grad():
            x = self.{holder}.token_embedding(ids).type(self.{holder}.dtype)
            x = x + self.{holder}.positional_embedding.type(self.{holder}.dtype)
            x = self.{holder}.transformer(x.permute(1, 0, 2))
            return self.{holder}.ln_final(x).permute(1, 0, 2)

    def forward(self, texts):
        return self.{layer}(self.vectors(texts))
"""

BESIDE = """\
import torch
import clip
from torch import nn

clip_model, clip_preprocess = clip.load("ViT-B/32", device="cpu", jit=False)
clip.model.convert_weights(clip_model)
clip_model.eval()


class Motion(nn.Module):
    def __init__(self):
        super().__init__()
        self.cond_emb = nn.Linear(512, 4)

    def vectors(self, texts):
        return clip_model.encode_text(clip.tokenize(texts, truncate=True)).float()

    def forward(self, texts):
        return self.cond_emb(self.vectors(texts))
"""

LOADING = """\
import clip

clip_model, clip_preprocess = clip.load("ViT-B/32", device="cpu", jit=False)
"""

TOKENIZING = """\
import clip


def ids(texts):
    return clip.tokenize(texts, truncate=True)
"""

JUDGE = """\
import clip


class Judge:
    def __init__(self):
        self.clip, _ = clip.load("ViT-B/16", device="cpu", jit=False)
"""

MDM = {"model/mdm.py": POOLED.format(arguments="context_length=22, ", shape="[None]")}
MOMASK = {
    "models/mask_transformer/transformer.py": POOLED.format(arguments="", shape=""),
    "utils/eval_t2m.py": EVALUATION,
}
SALAD = {"models/denoiser/clip.py": STATES}
CODEBASES = {"mdm": MDM, "momask": MOMASK, "salad": SALAD}
CUT = POOLED.format(arguments="context_length=22, ", shape="")
# Those of the table, which have a seam each and no module of their own.
TABLE = {
    "mardm": {"models/MARDM.py": POOLED.format(arguments="", shape=""), "utils/evaluators.py": JUDGE},
    "t2m-gpt": {"train_t2m_trans.py": BESIDE, "GPT_eval_multi.py": LOADING, "utils/eval_trans.py": TOKENIZING},
    "mmm": {
        "train_t2m_trans.py": BESIDE,
        "GPT_eval_multi.py": LOADING,
        "generate.py": BESIDE,
        "utils/eval_trans.py": TOKENIZING,
    },
    "bamm": MOMASK,
    "guided-motion-diffusion": {f"model/{name}.py": CUT for name in ("mdm_unet", "mdm", "mdm_dit")},
    "omnicontrol": {"model/cmdm.py": CUT},
    "stablemofusion": {"models/unet.py": PARTS.format(holder="clip_model", layer="embed_text")},
    "motiondiffuse": {"text2motion/models/transformer.py": PARTS.format(holder="clip", layer="text_pre_proj")},
}
SEAM = {"mdm": "model/mdm.py", "momask": "models/mask_transformer/transformer.py", "salad": "models/denoiser/clip.py"}


def write(codebase: str, root: Path, end: str = "\n") -> Path:
    """The stand-in's files under `root`, which is returned; end: how lines end."""
    for name, content in (CODEBASES | TABLE)[codebase].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.replace("\n", end).encode())
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file under `root`, git's own aside."""
    files = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
