"""Every training stage of MDM, MoMask and SALAD on a small data set, by their own scripts: launched, and edited.

Minutes each, on a CPU. The checkouts' location comes from $ADACLIP_MDM, $ADACLIP_MOMASK and $ADACLIP_SALAD; without it
these tests are skipped.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess

import pytest
import torch

from adaqf_train.cli import main
from tests.integrations.field import LAUNCHER, VARIABLES, checkout_of, copy_of, equip, keys_of, notes_in, run, words_of

pytestmark = pytest.mark.slow

MDM = (
    "-m train.train_mdm --dataset humanml --layers 1 --latent_dim 32 --diffusion_steps 5 --num_steps 2 --batch_size 16"
)
MDM += " --mask_frames --use_ema --device -1 --save_interval 16 --overwrite --save_dir save/{way}"
SHARED = "--dataset_name t2m --gpu_id -1 --max_epoch 1 --eval_every_e 100"
RVQ = "train_vq.py --name vq --nb_code 64 --code_dim 64 --output_emb_width 64 --width 64 --depth 1 --num_quantizers 3"
SMALL = "--vq_name vq --latent_dim 48 --n_heads 4 --n_layers 2 --ff_size 64 --batch_size 32"
VAE = "train_vae.py --name vae --latent_dim 8 --batch_size 64 --num_workers 1"
DENOISER = "train_denoiser.py --name {way} --vae_name vae --latent_dim 32 --n_heads 4 --ff_dim 64 --n_layers 3"
DENOISER += " --batch_size 32 --num_inference_timesteps 3 --num_workers 1"
# Stages that read no text, then those that do.
STAGES = {
    "mdm": ((), (MDM,)),
    "momask": (
        (f"{RVQ} {SHARED}",),
        (
            f"train_t2m_transformer.py --name m-{{way}} {SMALL} {SHARED}",
            f"train_res_transformer.py --name r-{{way}} {SMALL} {SHARED} --cond_drop_prob 0.2 --share_weight",
        ),
    ),
    "salad": ((f"{VAE} {SHARED}",), (f"{DENOISER} {SHARED}",)),
}
GO_ON = {"mdm": "", "momask": " --is_continue", "salad": " --is_continue"}  # MDM goes on by itself


@pytest.fixture(scope="module", params=VARIABLES)
def place(request, tmp_path_factory):
    """A checkout's name, an equipped copy with the stages that read no text behind it, and the folder of models."""
    codebase = request.param
    checkout_of(codebase)  # before models are made for nothing
    models = request.getfixturevalue("models")
    folder = tmp_path_factory.mktemp(codebase)
    assert main(["prepare", "synthetic", str(folder / "data"), "--clips", "300"]) == 0
    root = copy_of(codebase, folder / "checkout")
    equip(root, folder / "data", models / "full" / "clip-vit-base-patch32", words_of(folder / "data"))
    for stage in STAGES[codebase][0]:
        run(root, [*LAUNCHER, "--compat", *stage.split()])
        for trained in root.glob("checkpoints/t2m/v*/model/latest.tar"):
            best = trained.with_name("net_best_fid.tar")  # not there when the first evaluation was the best
            if not best.exists():
                shutil.copy(trained, best)
    return codebase, root, models


@pytest.mark.parametrize("way", ["launched", "edited"])
def test_every_stage_runs_and_its_checkpoints_hold_nothing_of_the_encoder(place, way):
    codebase, root, models = place
    adapter, other = str(models / "adapter"), str(models / "other")
    shim = importlib.import_module(f"adaclip_integrations.{codebase}")
    stages = [stage.format(way=way).split() for stage in STAGES[codebase][1]]
    if way == "launched":
        before = [*LAUNCHER, "--compat", "--weights", adapter]
    else:
        before = [*LAUNCHER, "--compat"]
        shim.apply(root, adapter)
    known = set(root.rglob("*.tar")) | set(root.rglob("model0*.pt"))
    for stage in stages:
        run(root, [*before, *stage])
    trained = (set(root.rglob("*.tar")) | set(root.rglob("model0*.pt"))) - known
    assert len(trained) >= len(stages)
    noted = notes_in(root)
    for path in trained:
        keys = keys_of(torch.load(path, map_location="cpu", weights_only=True))
        assert len(keys) > 10
        assert not [key for key in keys if "clip" in key], path
        assert path.name in {name.rpartition("/")[2] for name in noted}
    assert len({record["encoder"] for record in noted.values()}) == 1

    going_on = [*stages[0], *GO_ON[codebase].split()]
    launcher, environment = ([*before[:-1], other], {}) if way == "launched" else (before, {"ADACLIP_WEIGHTS": other})
    with pytest.raises(AssertionError, match="This checkpoint was trained with AdaCLIP"):
        run(root, [*launcher, *going_on], **environment)
    if way == "edited":
        shim.revert(root)
        changed = subprocess.run(["git", "-C", root, "status", "--short", "-uno"], capture_output=True, text=True)
        assert changed.stdout == ""
