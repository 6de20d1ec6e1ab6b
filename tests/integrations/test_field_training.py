"""The commands of the pages of MDM, MoMask and SALAD to their ends, on a small data set: launched, and edited.

Training, resuming, sampling and evaluation, with the codebases' defaults for logging and plotting, and the encoder
checked inside each process. Many minutes each, on a CPU. The checkouts' location comes from $ADACLIP_MDM,
$ADACLIP_MOMASK and $ADACLIP_SALAD; without it these tests are skipped.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from adaclip import AdaCLIP
from adaqf_train.cli import main
from tests.integrations.field import checkout_of, copy_of, equip, keys_of, notes_in, record, run, words_of
from tests.integrations.probe import PROMPTS

pytestmark = pytest.mark.slow

CHECKED = str(Path(__file__).with_name("checked.py"))
MDM = "-m train.train_mdm --dataset humanml --layers 1 --latent_dim 32 --diffusion_steps 5 --batch_size 16"
MDM += " --mask_frames --use_ema --device -1 --save_interval 16 --save_dir save/{way}"
SHARED = "--dataset_name t2m --gpu_id -1"
RVQ = "train_vq.py --name vq --nb_code 64 --code_dim 64 --output_emb_width 64 --width 64 --depth 1 --num_quantizers 3"
SMALL = "--vq_name vq --latent_dim 48 --n_heads 4 --n_layers 2 --ff_size 64 --batch_size 32"
MASK = f"train_t2m_transformer.py --name m-{{way}} {SMALL} {SHARED}"
RESIDUAL = f"train_res_transformer.py --name r-{{way}} {SMALL} {SHARED} --cond_drop_prob 0.2 --share_weight"
VAE = f"train_vae.py --name vae --latent_dim 8 --batch_size 64 {SHARED} --max_epoch 1"
DENOISER = "train_denoiser.py --name {way} --vae_name vae --latent_dim 32 --n_heads 4 --ff_dim 64 --n_layers 3"
DENOISER += f" --batch_size 32 --num_inference_timesteps 3 {SHARED}"
GENERATORS = "--res_name r-{way} --name m-{way}"
# Commands by the columns of the page's table; those of `before` read no text.
COMMANDS = {
    "mdm": {
        "trained": [f"{MDM} --num_steps 2"],
        "resumed": [f"{MDM} --num_steps 3 --overwrite"],
        "sampled": ["-m sample.generate --model_path {saved} --text_prompt walks --num_samples 2 --device -1"],
        "evaluated": ["-m eval.eval_humanml --model_path {saved} --eval_mode debug --device -1"],
    },
    "momask": {
        "before": [f"{RVQ} {SHARED} --max_epoch 1"],
        "trained": [f"{MASK} --max_epoch 1", f"{RESIDUAL} --max_epoch 1"],
        "resumed": [f"{MASK} --max_epoch 2 --is_continue"],
        "sampled": [f"gen_t2m.py --gpu_id -1 --ext {{way}} {GENERATORS} --text_prompt walks --motion_length 60"],
        "evaluated": [f"eval_t2m_trans_res.py {GENERATORS} {SHARED} --cond_scale 4 --time_steps 10 --ext {{way}}"],
    },
    "salad": {
        "before": [VAE],
        "trained": [f"{DENOISER} --max_epoch 1"],
        "resumed": [f"{DENOISER} --max_epoch 2 --is_continue"],
        "evaluated": ["test_denoiser.py --name {way} --num_inference_timesteps 3"],
    },
}


@pytest.fixture(scope="module", params=COMMANDS)
def place(request, tmp_path_factory):
    """A checkout's name, an equipped copy after the stages that read no text, the folder of models, and a runner."""
    codebase = request.param
    checkout_of(codebase)  # before models are made for nothing
    models = request.getfixturevalue("models")
    folder = tmp_path_factory.mktemp(codebase)
    assert main(["prepare", "synthetic", str(folder / "data"), "--clips", "300"]) == 0
    root = copy_of(codebase, folder / "checkout")
    equip(root, folder / "data", models / "full" / "clip-vit-base-patch32", words_of(folder / "data"))
    if codebase == "mdm":  # it looks for the evaluator in another place
        shutil.copytree(root / "checkpoints" / "t2m", root / "t2m")
    encoder = AdaCLIP.from_pretrained(models / "adapter")
    states = encoder.encode(PROMPTS, output="tokens").tokens
    states = nn.functional.pad(states, (0, 0, 0, 77 - states.shape[1]))
    torch.save({False: encoder.encode(PROMPTS), True: states}, folder / "expected.pt")
    report = folder / "report.jsonl"

    def checked(command: str, *options: str, **environment: str) -> list[float]:
        report.unlink(missing_ok=True)
        before = [CHECKED, str(report), str(folder / "expected.pt"), "--cpu", "--compat", *options]
        run(root, [*before, *command.split()], timeout=3600, **environment)
        keep_a_best(root)
        lines = map(json.loads, report.read_text().splitlines()) if report.exists() else ()
        return [value for line in lines for value in line.values() if isinstance(value, float)]

    for command in COMMANDS[codebase].get("before", ()):
        checked(command)
    return codebase, root, models, checked


def keep_a_best(root: Path) -> None:
    """Later stages read the best checkpoint, which is not there when the first evaluation was the best."""
    for trained in root.glob("checkpoints/t2m/*/model/latest.tar"):
        best = trained.with_name("net_best_fid.tar")
        if not best.exists():
            shutil.copy(trained, best)


@pytest.mark.parametrize("way", ["launched", "edited"])
def test_every_command_ends_well_and_reads_adaclip(place, way):
    codebase, root, models, checked = place
    shim = importlib.import_module(f"adaclip_integrations.{codebase}")
    options = ["--weights", str(models / "adapter")] if way == "launched" else []
    if way == "edited":
        shim.apply(root, str(models / "adapter"))
    known = set(root.rglob("*.tar")) | set(root.rglob("model0*.pt"))
    columns = [column for column in COMMANDS[codebase] if column != "before"]
    for column in columns:
        for command in COMMANDS[codebase][column]:
            saved = max((root / "save" / way).glob("model0*.pt"), default="")
            differences = checked(command.format(way=way, saved=saved), *options)
            assert differences, f"{command}: no generator read text"
            assert max(differences) < 1e-5, command
        record(codebase, "launcher" if way == "launched" else "edit", column)
    trained = (set(root.rglob("*.tar")) | set(root.rglob("model0*.pt"))) - known
    noted = notes_in(root)
    for path in trained:
        keys = keys_of(torch.load(path, map_location="cpu", weights_only=True))
        assert len(keys) > 10
        assert not [key for key in keys if "clip" in key], path
        assert path.name in {name.rpartition("/")[2] for name in noted}
    assert len({entry["encoder"] for entry in noted.values()}) == 1

    going_on = COMMANDS[codebase]["resumed"][0].format(way=way)
    other = str(models / "other")
    options, environment = (["--weights", other], {}) if way == "launched" else ([], {"ADACLIP_WEIGHTS": other})
    with pytest.raises(AssertionError, match="This checkpoint was trained with AdaCLIP"):
        checked(going_on, *options, **environment)
    record(codebase, "record and guard")
    if way == "edited":
        shim.revert(root)
        changed = subprocess.run(["git", "-C", root, "status", "--short", "-uno"], capture_output=True, text=True)
        assert changed.stdout == ""
