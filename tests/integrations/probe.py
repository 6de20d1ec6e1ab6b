"""Run inside a checkout by test_real_checkouts.py: builds its model, reads prompts, takes one training step.

probe.py OUT CODEBASE WAY ADAPTER VANILLA: WAY is vanilla (OpenAI file VANILLA), swap (a live model) or as-is.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from argparse import Namespace

import torch

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly", "", "he turns to the left"]
LONG = "a person walks forward slowly and turns around and comes back to where the walk began, waving the left hand"
B, FRAMES = len(PROMPTS), 24


def options(**values: object) -> Namespace:
    return Namespace(device="cpu", dropout=0.1, latent_dim=48, **values)


def mdm():
    from model.mdm import MDM

    model = MDM(
        "",
        263,
        1,
        1,
        True,
        "rot6d",
        True,
        True,
        latent_dim=32,
        ff_size=64,
        num_layers=1,
        num_heads=4,
        data_rep="hml_vec",
        dataset="humanml",
        arch="trans_enc",
        cond_mode="text",
        cond_mask_prob=0.1,
        clip_version="ViT-B/32",
    )
    torch.manual_seed(2)  # loading an encoder draws random numbers or does not
    x, steps = torch.randn(B, 263, 1, FRAMES), torch.arange(B)
    y = {"text": PROMPTS, "mask": torch.ones(B, 1, 1, FRAMES, dtype=torch.bool)}
    return [model], lambda model: model(x, steps, dict(y)), lambda model, texts: model.encode_text(texts)[0]


def momask():
    from models.mask_transformer.transformer import MaskTransformer, ResidualTransformer

    sizes = {"cond_mode": "text", "latent_dim": 48, "ff_size": 64, "num_layers": 1, "num_heads": 4, "clip_dim": 512}
    opt = options(num_tokens=32, num_quantizers=3)
    both = [
        MaskTransformer(code_dim=16, clip_version="ViT-B/32", opt=opt, **sizes),
        ResidualTransformer(code_dim=16, clip_version="ViT-B/32", opt=opt, share_weight=True, **sizes),
    ]
    torch.manual_seed(2)
    codes, lengths = torch.randint(32, (B, 12, 3)), torch.tensor([12, 8, 4, 6])

    def step(model):
        torch.manual_seed(5)  # they mask at random
        return model(codes[..., 0] if isinstance(model, MaskTransformer) else codes, PROMPTS, lengths)[0]

    return both, step, lambda model, texts: model.encode_text(texts)


def salad():
    from models.denoiser.model import Denoiser

    opt = options(clip_version="ViT-B/32", checkpoints_dir="./checkpoints", n_heads=4, n_layers=3, ff_dim=64)
    opt.__dict__.update(norm="layer", activation="gelu", kernel_size=3)
    torch.manual_seed(2)
    x, steps = torch.randn(B, 6, 7, 8), torch.arange(B)
    mask = torch.ones(B, 6, dtype=torch.bool)

    def states(model, texts):
        found, real, _ = model.clip_model.encode_text(texts)
        return found * real[..., None]

    return [Denoiser(opt, 8)], lambda model: model(x, steps, PROMPTS, len_mask=mask)[0], states


def main(out: str, codebase: str, way: str, adapter: str, vanilla: str) -> None:
    if way == "vanilla" and codebase != "salad":
        import clip

        real = clip.load

        def load(name, **settings):  # as a download would have it, in full precision
            model, preprocess = real(vanilla, **settings)
            model.float().load_state_dict(torch.jit.load(vanilla).state_dict())
            return model, preprocess

        clip.load = load
    torch.manual_seed(0)
    models, step, read = globals()[codebase]()
    if way == "swap":
        import importlib

        from adaclip import AdaCLIP

        encoder = AdaCLIP.from_pretrained(adapter)
        models = [importlib.import_module(f"adaclip_integrations.{codebase}").swap_encoder(m, encoder) for m in models]
    results = []
    for model in models:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            vectors, long = read(model, PROMPTS).detach(), read(model, [LONG]).detach()
        state = model.state_dict()
        own = sorted(key for key in state if not key.startswith("clip_model."))
        torch.manual_seed(1)
        with torch.no_grad():  # the same generator, whatever the encoder's loading did to the random numbers
            for name, parameter in model.named_parameters():
                if not name.startswith("clip_model."):
                    parameter.copy_(0.3 * torch.randn(parameter.shape))
        model.eval()
        with torch.no_grad():
            output = step(model)
        average = copy.deepcopy(model)
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        step(model).square().mean().backward()
        optimizer.step()
        for parameter, mean in zip(model.parameters(), average.parameters(), strict=True):
            mean.data.mul_(0.9).add_(parameter.data, alpha=0.1)
        checkpoint = copy.copy(model.state_dict())
        for key in set(checkpoint) - set(own):
            del checkpoint[key]
        model.eval()
        with torch.no_grad():
            moved = step(model)
        results.append(
            {
                "vectors": vectors,
                "long": long,
                "output": output,
                "after": moved,
                "vectors_after": read(model, PROMPTS).detach(),
                "vectors_average": read(average, PROMPTS).detach(),
                "encoder_parameters": [n for n, _ in model.named_parameters() if n.startswith("clip_model.")],
                "encoder_keys": sorted(set(state) - set(own)),
                "own_keys": own,
                "said": [str(warning.message) for warning in said],
                "checkpoint": checkpoint,
            }
        )
        if len(sys.argv) > 6:
            refused = "loaded"
            theirs = torch.load(sys.argv[6])[len(results) - 1]["checkpoint"]
            with contextlib.suppress(ImportError):
                from adaclip import AdaCLIPError
            try:
                missing, unexpected = model.load_state_dict(theirs, strict=False)
                assert not unexpected
                assert all(key.startswith("clip_model.") for key in missing)
            except AdaCLIPError as error:
                refused = str(error)
            results[-1]["loading"] = refused
    torch.save(results, out)


if __name__ == "__main__":
    main(*sys.argv[1:6])
