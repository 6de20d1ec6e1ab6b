"""Run inside a checkout by test_more_checkouts.py: what the codebase's own code reads of the prompts, and its guard.

probe_table.py OUT CODEBASE [CHECKPOINT]: saves the vectors and a checkpoint, and tries to load CHECKPOINT.
"""

from __future__ import annotations

import ast
import sys
import types

import torch
from torch import nn

from tests.integrations.probe import PROMPTS

MDM_LIKE = ("", 263, 1, 1, True, "rot6d", True, True)
TEXT = {"data_rep": "hml_vec", "dataset": "humanml", "cond_mode": "text", "clip_version": "ViT-B/32", "latent_dim": 32}


def build(codebase: str) -> nn.Module:
    """A small generator of the codebase."""
    if codebase == "mardm":
        mlp = types.ModuleType("timm.models.vision_transformer")
        mlp.Mlp = lambda in_features, hidden_features, **_: nn.Linear(in_features, in_features)
        integrator = types.ModuleType("torchdiffeq")
        integrator.odeint = None  # for sampling
        for module in (types.ModuleType("timm"), types.ModuleType("timm.models"), mlp, integrator):
            sys.modules[module.__name__] = module
        from models.MARDM import MARDM

        sizes = {"latent_dim": 32, "ff_size": 64, "num_layers": 1, "num_heads": 4}
        return MARDM(16, "text", diffmlps_model="SiT-XL", clip_version="ViT-B/32", **sizes)
    if codebase == "guided-motion-diffusion":
        from model.mdm_unet import MDM_UNET

        return MDM_UNET(*MDM_LIKE, **TEXT, dim_mults=(1, 1))
    if codebase == "omnicontrol":
        from model.cmdm import CMDM

        return CMDM(*MDM_LIKE, **TEXT, ff_size=64, num_layers=1)
    if codebase == "bamm":
        from models.mask_transformer.transformer import ResidualTransformer

        opt = types.SimpleNamespace(num_tokens=32, num_quantizers=3, device="cpu")
        sizes = {"latent_dim": 48, "ff_size": 64, "num_layers": 1, "num_heads": 4}
        return ResidualTransformer(16, "text", clip_version="ViT-B/32", opt=opt, share_weight=True, **sizes)
    if codebase == "stablemofusion":
        from models.unet import T2MUnet

        return T2MUnet(263, base_dim=32, dim_mults=(1, 1), text_latent_dim=32, time_dim=32)
    if codebase == "motiondiffuse":
        sys.path.insert(0, "text2motion")
        from models.transformer import MotionTransformer

        return MotionTransformer(263, num_layers=1, latent_dim=32, ff_size=32, text_latent_dim=64, text_num_heads=4)
    from models.t2m_trans import Text2Motion_Transformer

    sizes = {"num_vq": 16, "embed_dim": 32, "block_size": 8, "num_layers": 2, "n_head": 4}
    if codebase == "t2m-gpt":
        return Text2Motion_Transformer(**sizes)
    vqvae = types.SimpleNamespace(vqvae=types.SimpleNamespace(num_code=16, code_dim=8), num_code=16)
    codebook = types.SimpleNamespace(codebook=torch.zeros(16, 8), mu=0.99)
    vqvae.vqvae.quantizer = vqvae.quantizer = codebook
    return Text2Motion_Transformer(vqvae, num_local_layer=1, **sizes)


def script_globals(file: str) -> dict:
    """What the statements of a script that deal with CLIP define."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    about = ("import clip", "import adaclip_integrations", "clip = ", "clip_model", "class TextCLIP")
    kept = [node for node in tree.body if ast.unparse(node).startswith(about)]
    defined = {"torch": torch, "__file__": file, "__name__": "script"}
    exec(compile(ast.Module(kept, []), file, "exec"), defined)
    return defined


def main(out: str, codebase: str, checkpoint: str = "") -> None:
    """Read the prompts, save a checkpoint, and load one."""
    torch.manual_seed(0)
    found: list[torch.Tensor] = []
    if codebase in ("t2m-gpt", "mmm"):
        defined = script_globals("train_t2m_trans.py")
        encoder, ids = defined["clip_model"], defined["clip"].tokenize(PROMPTS, truncate=True)
        read = encoder.encode_text(ids) if codebase == "t2m-gpt" else encoder(ids)[1]
        found.append(read.float())
        model = build(codebase)
    else:
        model = build(codebase)
        model.eval()  # descendants of MDM return nothing
        layers = {"stablemofusion": "embed_text", "motiondiffuse": "text_pre_proj"}
        if codebase in layers:  # states, length first
            getattr(model, layers[codebase]).register_forward_pre_hook(
                lambda module, inputs: found.append(inputs[0].permute(1, 0, 2).float())
            )
            model.encode_text(PROMPTS, torch.device("cpu"))
        else:
            found.append(model.encode_text(PROMPTS))
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("clip")}
    torch.save({"trans": state, "nb_iter": 1}, f"{out}.pth")
    result = {"vectors": found[0].detach(), "keys": [key for key in model.state_dict() if key.startswith("clip")]}
    for name, path in {"own": f"{out}.pth", "other": checkpoint}.items():
        if path:
            try:
                model.load_state_dict(torch.load(path, weights_only=True)["trans"], strict=False)
                result[name] = "loaded"
            except Exception as error:  # the module may be loaded twice, under edits and here
                result[name] = f"{type(error).__name__}: {error}"
    torch.save(result, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
