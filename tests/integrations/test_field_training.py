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
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from adaclip import AdaCLIP
from adaqf_train.cli import main
from tests.integrations import table
from tests.integrations.field import checkout_of, copy_of, equip, keys_of, notes_in, run, words_of
from tests.integrations.probe import PROMPTS

pytestmark = pytest.mark.slow

CHECKED = str(Path(__file__).with_name("checked.py"))
MDM = "-m train.train_mdm --dataset humanml --layers 1 --latent_dim 32 --diffusion_steps 5 --batch_size 16"
MDM += " --mask_frames --use_ema --device -1 --save_interval 16 --save_dir save/{way}"
SHARED = "--dataset_name t2m --gpu_id -1"
RVQ = "train_vq.py --name vq --nb_code 64 --code_dim 64 --output_emb_width 64 --width 64 --depth 1 --num_quantizers 3"
SMALL = "--vq_name vq --latent_dim 48 --n_heads 4 --n_layers 1 --ff_size 64 --batch_size 32"
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
        "sampled": [
            "-m sample.generate --model_path {saved} --text_prompt walks --num_samples 2 --device -1",
            "-m sample.generate --model_path {saved} --num_samples 2 --num_repetitions 1 --device -1",
        ],
        "evaluated": ["-m eval.eval_humanml --model_path {saved} --eval_mode wo_mm --device -1"],
    },
    "momask": {
        "before": [f"{RVQ} {SHARED} --max_epoch 1"],
        "trained": [f"{MASK} --max_epoch 1", f"{RESIDUAL} --max_epoch 1"],
        "resumed": [f"{MASK} --max_epoch 2 --is_continue", f"{RESIDUAL} --max_epoch 2 --is_continue"],
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
STEPS = [
    (codebase, way, column)
    for codebase, columns in COMMANDS.items()
    for way in table.WAYS
    for column in (*columns, "record and guard")
    if column != "before"
]
JUDGED = {"mdm": 352, "momask": 132, "salad": 132}  # clips that their evaluations need, and little more


@dataclass
class Place:
    """An equipped copy of a checkout, and a runner of its commands."""

    codebase: str
    root: Path
    folder: Path
    models: Path
    way: str = ""

    def checked(self, command: str, **environment: str) -> list[float]:
        """Run a command by the present way; return how far from AdaCLIP's the vectors are that it read."""
        report = self.folder / "report.jsonl"
        report.unlink(missing_ok=True)
        before = [CHECKED, str(report), str(self.folder / "expected.pt"), "--cpu", "--compat"]
        if self.way == "launcher":
            before += ["--weights", environment.pop("ADACLIP_WEIGHTS", str(self.models / "adapter"))]
        saved = max((self.root / "save" / self.way).glob("model0*.pt"), default="")
        words, start = command.format(way=self.way, saved=saved).split(), time.monotonic()
        run(self.root, [*before, *words], timeout=3600, **environment)
        print(f"{time.monotonic() - start:.0f} s, exit code 0, {self.way or 'no text'}: {' '.join(words)}")
        keep_a_best(self.root)
        lines = map(json.loads, report.read_text().splitlines()) if report.exists() else ()
        return [value for line in lines for value in line.values() if isinstance(value, float)]

    def reach(self, way: str) -> None:
        """Change the checkout's way: edits are there for `edit` only."""
        shim = importlib.import_module(f"adaclip_integrations.{self.codebase}")
        if way == "edit":
            shim.apply(self.root, str(self.models / "adapter"))
        else:
            shim.revert(self.root)
        self.way = way

    def checkpoints(self) -> set[Path]:
        """What the generators' trainings have saved."""
        tars = {path for path in self.root.rglob("*.tar") if self.way in path.parent.parent.name}
        return tars | set((self.root / "save" / self.way).glob("model0*.pt"))


@pytest.fixture(scope="module")
def place(request, tmp_path_factory):
    """place(codebase): an equipped copy, after the stages that read no text."""

    @cache
    def make(codebase: str) -> Place:
        checkout_of(codebase)  # before models are made for nothing
        models = request.getfixturevalue("models")
        folder = tmp_path_factory.mktemp(codebase)
        assert main(["prepare", "synthetic", str(folder / "data"), "--clips", "360"]) == 0
        made = Place(codebase, copy_of(codebase, folder / "checkout"), folder, models)
        base = models / "full" / "clip-vit-base-patch32"
        equip(made.root, folder / "data", base, words_of(folder / "data"), JUDGED[codebase])
        if codebase == "mdm":  # it looks for the evaluator in another place
            shutil.copytree(made.root / "checkpoints" / "t2m", made.root / "t2m")
        encoder = AdaCLIP.from_pretrained(models / "adapter")
        states = encoder.encode(PROMPTS, output="tokens").tokens
        states = nn.functional.pad(states, (0, 0, 0, 77 - states.shape[1]))
        torch.save({False: encoder.encode(PROMPTS), True: states}, folder / "expected.pt")
        for command in COMMANDS[codebase].get("before", ()):
            made.checked(command)
        return made

    return make


def keep_a_best(root: Path) -> None:
    """Later stages read the best checkpoint, which is not there when the first evaluation was the best."""
    for trained in root.glob("checkpoints/t2m/*/model/latest.tar"):
        best = trained.with_name("net_best_fid.tar")
        if not best.exists():
            shutil.copy(trained, best)


@pytest.mark.shows("{codebase}: {column} by {way}")
@pytest.mark.parametrize(("codebase", "way", "column"), STEPS)
def test_every_command_ends_well_and_reads_adaclip(codebase, way, column, place):
    checkout_of(codebase)
    there = place(codebase)
    if there.way != way:
        there.reach(way)
    if column == "record and guard":
        return check_records(there)
    for command in COMMANDS[codebase][column]:
        differences = there.checked(command)
        assert differences, f"{command}: no generator read text"
        assert max(differences) < 1e-5, command
    return None


def check_records(place: Place) -> None:
    """Checkpoints hold no encoder, name theirs, and do not go on under another; the checkout comes back clean."""
    noted, trained = notes_in(place.root), place.checkpoints()
    assert trained
    for path in trained:
        keys = keys_of(torch.load(path, map_location="cpu", weights_only=True))
        assert len(keys) > 10
        assert not [key for key in keys if "clip" in key], path
        assert path.name in {name.rpartition("/")[2] for name in noted}
    assert len({entry["encoder"] for entry in noted.values()}) == 1
    with pytest.raises(AssertionError, match="This checkpoint was trained with AdaCLIP"):
        place.checked(COMMANDS[place.codebase]["resumed"][0], ADACLIP_WEIGHTS=str(place.models / "other"))
    place.reach("")
    changed = subprocess.run(["git", "-C", place.root, "status", "--short", "-uno"], capture_output=True, text=True)
    assert changed.stdout == ""
