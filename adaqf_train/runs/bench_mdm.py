"""The speed of MDM's own code, imported from a checkout: its training step and its sampling.

A process of its own runs this file, because their modules have names such as `model` and `utils`, and because our
stand-ins for what they miss must not stay.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from adaclip_integrations.compat import compatible

Row = dict[str, str | float | None]
BATCH, FRAMES, FEATURES, MOTIONS, DIFFUSION = 64, 196, 263, 32, 50
LIMIT = 240  # seconds of the process
WHAT = ("MDM's own step", "MDM's own sampling, DDPM 50")


def measure(checkout: Path) -> list[Row]:
    """Time MDM's code in a process of its own.

    Args:
        checkout: A checkout of GuyTevet/motion-diffusion-model.

    Returns:
        Rows of the step and of sampling; without `ms` and with the reason in "why" where the code does not run.
    """
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", __name__, str(checkout.resolve())]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return _unmeasured(f"it took longer than {LIMIT} s")
    if done.returncode:
        return _unmeasured((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def _unmeasured(why: str) -> list[Row]:
    return [{"what": what, "on": "–", "precision": None, "ms": None, "why": why} for what in WHAT]


def main(checkout: Path) -> None:
    """Print the rows as one line of JSON. On a CPU a few clips and steps show that the code runs."""
    sys.path.insert(0, str(checkout))
    os.chdir(checkout)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with compatible():
        model, diffusion = build(device)
        rows = [_step(model, diffusion, device), _sampling(model, diffusion, device)]
    print(json.dumps(rows))


def build(device: torch.device) -> tuple[torch.nn.Module, object]:
    """MDM's decoder at its usual size on a CLIP of random weights, and its diffusion."""
    clip = importlib.import_module("clip")
    importlib.import_module("clip.model")

    def load(*_: object, **__: object) -> tuple[torch.nn.Module, None]:
        tower = {"transformer_width": 512, "transformer_heads": 8, "transformer_layers": 12}
        vision = {"image_resolution": 32, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 32}
        network = clip.model.CLIP(embed_dim=512, context_length=77, vocab_size=49408, **tower, **vision)
        return network.eval(), None

    clip.load = load  # no download
    sizes = {"latent_dim": 512, "ff_size": 1024, "num_layers": 8, "num_heads": 4, "dropout": 0.1, "activation": "gelu"}
    data = {"njoints": FEATURES, "nfeats": 1, "data_rep": "hml_vec", "dataset": "humanml", "pose_rep": "rot6d"}
    body = {"translation": True, "glob": True, "glob_rot": True, "num_actions": 1, "modeltype": ""}
    text = {"cond_mode": "text", "cond_mask_prob": 0.1, "clip_version": "ViT-B/32", "arch": "trans_dec"}
    if device.type == "cpu":  # they call .cuda() for their CLIP in places
        torch.nn.Module.cuda = lambda self, *_: self
    model = importlib.import_module("model.mdm").MDM(**sizes, **data, **body, **text, emb_trans_dec=False)
    if device.type == "cpu":
        model.clip_model.float()
    weights = {"lambda_vel": 0.0, "lambda_rcxyz": 0.0, "lambda_fc": 0.0}
    options = SimpleNamespace(diffusion_steps=DIFFUSION, noise_schedule="cosine", sigma_small=True, **weights)
    diffusion = importlib.import_module("utils.model_util").create_gaussian_diffusion(options)
    model.to(device)  # returns nothing: they override what it calls
    return model, diffusion


def _step(model: torch.nn.Module, diffusion: object, device: torch.device) -> Row:
    """Their loss, AdamW and moving average, as `train/training_loop.py` puts them together."""
    count = BATCH if device.type == "cuda" else 2
    model.train()
    model.clip_model.eval()
    average = copy.deepcopy(model)
    learnt = [p for name, p in model.named_parameters() if not name.startswith("clip_model.")]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4)

    def step() -> None:
        motion = torch.randn(count, FEATURES, 1, FRAMES, device=device)
        lengths = torch.randint(40, FRAMES + 1, (count,), device=device)
        mask = (torch.arange(FRAMES, device=device) < lengths[:, None])[:, None, None]
        condition = {"mask": mask, "lengths": lengths, "text": _prompts(count)}
        timesteps = torch.randint(0, DIFFUSION, (count,), device=device)
        optimizer.zero_grad()
        losses = diffusion.training_losses(model, motion, timesteps, model_kwargs={"y": condition})
        losses["loss"].mean().backward()
        optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                mean.mul_(0.9999).add_(parameter, alpha=1e-4)

    return {"what": WHAT[0], "on": f"{FRAMES} frames, batch {count}", "ms": 1e3 * _seconds(step, device)}


def _sampling(model: torch.nn.Module, diffusion: object, device: torch.device) -> Row:
    """Their DDPM loop under guidance, in two passes; on a CPU its last steps alone."""
    count, skipped = (MOTIONS, 0) if device.type == "cuda" else (2, DIFFUSION - 2)
    guided = importlib.import_module("utils.sampler_util").ClassifierFreeSampleModel(model)
    model.eval()
    shape, mask = (count, FEATURES, 1, FRAMES), torch.ones(count, 1, 1, FRAMES, dtype=torch.bool, device=device)
    condition = {"mask": mask, "lengths": torch.full((count,), FRAMES, device=device), "text": _prompts(count)}
    condition["scale"] = torch.full((count,), 2.5, device=device)

    @torch.no_grad()
    def sample() -> None:
        condition["text_embed"] = model.encode_text(condition["text"])
        options = {"clip_denoised": False, "model_kwargs": {"y": condition}, "skip_timesteps": skipped}
        if skipped:
            options["init_image"] = torch.zeros(shape, device=device)
        diffusion.p_sample_loop(guided, shape, **options)

    steps = f", the last {DIFFUSION - skipped} steps" if skipped else ""
    return {"what": WHAT[1], "on": f"{count} × {FRAMES} frames{steps}", "ms": 1e3 * _seconds(sample, device, times=3)}


def _prompts(count: int) -> list[str]:
    return [f"a person walks {number} steps and then sits down" for number in range(count)]


def _seconds(run: Callable[[], None], device: torch.device, times: int = 20) -> float:
    """Median seconds of a call."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    found = []
    for _ in range(times + 3 if device.type == "cuda" else 2):
        wait()
        start = time.perf_counter()
        run()
        wait()
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2] if device.type == "cuda" else found[-1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
