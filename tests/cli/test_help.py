"""The door: help of every verb at once and without torch, lists in it derived, settings as typed flags."""

from __future__ import annotations

import inspect
import os
import re
import resource
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args

import pytest

from adaclip._startup import WAITING
from adaqf_train import cli
from adaqf_train.cli import VERBS, main, motions, parse, prepare
from adaqf_train.config import RunConfig, SchedulerName, recipes
from adaqf_train.data.prepare.recordings import WINDOW
from adaqf_train.files.animation import Bones
from adaqf_train.files.names import Names
from adaqf_train.files.save import FORMATS
from adaqf_train.files.smpl import BodyModel
from adaqf_train.motion import mapping
from adaqf_train.studies.definitions import STUDIES
from tests.helpers import settings_of

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "numpy", "scipy", "accelerate", "diffusers", "peft", "matplotlib")
LOADED = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *(name for name in {HEAVY} if name in sys.modules)))
from {{module}} import main
sys.exit(main({{arguments}}))
"""


def python(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def help_of(capsys, *arguments: str) -> str:
    """The help of a command, in one line without its boxes."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    return " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("arguments", [[], ["train"], ["evaluate"], ["study"], ["sample"], ["prepare", "bvh"]])
def test_help_loads_nothing_heavy(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    out = python(LOADED.format(module="adaqf_train.cli", arguments=[*arguments, "--help"]))
    assert out.splitlines()[-1] == "LOADED"
    # Processor time, which other programs do not lengthen: about 0.4 s, where loading torch takes several seconds.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2


def test_help_of_the_encoders_command_loads_nothing_heavy():
    out = python(LOADED.format(module="adaclip.cli", arguments=["--help"]))
    assert out.splitlines()[-1] == "LOADED"


def test_help_names_every_verb_with_its_docstring(capsys):
    shown = help_of(capsys)
    for name, verb in VERBS.items():
        first = verb.__doc__.strip().partition("\n\n")[0]
        assert f"• {name} {' '.join(first.split())}" in shown
        assert first[0].isupper()
        assert first.endswith(".")


def test_help_of_verbs_lists_what_the_registries_hold(capsys):
    study = help_of(capsys, "study")
    assert all(name in study for name in STUDIES)
    for verb in ("train", "pipeline", "plan"):
        assert f"--recipe {{{','.join(recipes.RECIPES)}}}" in help_of(capsys, verb)
    sample, convert = help_of(capsys, "sample"), help_of(capsys, "convert")
    assert all(name in sample for name in get_args(SchedulerName))
    assert all(suffix in sample and suffix in convert for suffix in FORMATS)
    for here, there in ((motions.Bones, Bones), (motions.Names, Names), (motions.BodyModel, BodyModel)):
        assert get_args(here) == get_args(there)
    assert all(name in help_of(capsys, "prepare", "bvh") for name in mapping.PRESETS)
    assert prepare.WINDOW == WINDOW


def test_help_of_train_has_a_documented_flag_for_every_setting(capsys):
    shown = help_of(capsys, "train", "--recipe", "kit")
    found = 0
    for group in fields(RunConfig):
        kind = type(getattr(RunConfig(), group.name))
        if is_dataclass(kind):
            for setting in fields(kind):
                assert f"--{group.name}.{setting.name}".replace("_", "-") in shown
                found += 1
    assert found > 100
    assert "--data.min-frames INT Shortest clip in use; HumanML3D's (KIT-ML has 24). (default: 24)" in shown


def test_flags_and_set_change_the_recipe():
    common = ["--data", "DATA", "--out", "OUT", "--recipe", "kit"]
    flags = ["--training.steps", "1_000", "--training.ema", "None", "--feedback.on-dropped-text"]
    old = ["--set", "training.steps=1_000", "--set", "training.ema=none", "--set", "feedback.on_dropped_text=true"]
    by_flags, by_set = parse(["train", *common, *flags]), parse(["train", *common, *old])
    assert by_flags.config == by_set.config
    assert by_flags.config.recipe == by_flags.recipe == "kit"
    assert by_flags.config.data == recipes.load("kit").data
    assert (by_flags.config.training.steps, by_flags.config.training.ema) == (1000, None)
    assert parse(["train", *common, "--set", "training.steps=5", "--training.steps", "7"]).config.training.steps == 7
    assert parse(["demo"]).config == recipes.load("demo")
    assert parse(["plan"]).config == recipes.load("humanml3d")
    lists = ["--encoder.modules", "q_proj", "fc1", "--training.trackers"]
    changed = parse(["pipeline", *common, *lists]).config
    assert (changed.encoder.modules, changed.training.trackers) == (("q_proj", "fc1"), ())


@pytest.mark.parametrize("recipe", list(recipes.RECIPES))
def test_set_takes_every_setting_of_every_recipe(recipe):
    config = recipes.load(recipe)
    assert parse(["train", "--data", "x", "--out", "y", "--recipe", recipe, *settings_of(config)]).config == config


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--training.steps", "0"], "training.steps must be at least 1, got 0."),
        (["--trainin.steps", "5"], "--training.steps"),
        (["--denoiser.conditioning", "all"], "tokens"),
    ],
)
def test_flags_that_do_not_hold_are_named(flags, says, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["train", "--data", "x", "--out", "y", *flags])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert says in " ".join(re.sub("[│╭╮╰╯─]", " ", captured.out + captured.err).split())


def test_flags_that_do_not_hold_together_are_one_line(capsys):
    assert main(["train", "--data", "x", "--out", "y", "--sampling.steps", "60"]) == 1
    assert capsys.readouterr().err == "error: sampling.steps (60) must not exceed diffusion.steps (50).\n"


def test_study_records_flags_as_settings_of_its_trials(tmp_path):
    command = ["study", "weights", "--data", f"tiny={tmp_path}", "--set", "training.seed=3"]
    setup = parse([*command, "--set", "families.latent.training.steps=7", "--training.steps", "20"]).setup()
    assert setup.settings[-3:] == ("training.seed=3", "families.latent.training.steps=7", "training.steps=20")
    assert (setup.config.training.steps, setup.config.training.seed) == (20, 3)
    by_set = parse([*command, "--set", "families.latent.training.steps=7", "--set", "training.steps=20"]).setup()
    assert (by_set.settings, by_set.config) == (setup.settings, setup.config)


def test_evaluate_takes_the_runs_settings_and_flags_of_two_groups(tiny_run):
    config = RunConfig()
    verb = parse(["evaluate", "--run", str(tiny_run), "--sampling.guidance", "3.5", "--set", "evaluation.pool=8"])
    assert (verb.sampling.guidance, verb.evaluation.pool) == (3.5, 8)
    assert verb.evaluation.replications != config.evaluation.replications  # the run's, not the defaults
    with pytest.raises(SystemExit):
        parse(["retrieval", "--run", str(tiny_run), "--sampling.guidance", "3.5"])


@pytest.mark.parametrize(
    ("module", "verb"),
    [
        ("adaqf_train.cli", ["demo"]),
        ("adaclip.cli", ["info", "nowhere"]),
        ("adaclip_integrations.launch", ["--compat", "nowhere.py"]),
    ],
)
def test_openmp_spins_briefly_when_torch_loads(module, verb):
    """Every entry point sets the variable, and leaves a user's own choice alone."""
    watch = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("WAITS", os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
            sys.exit(0)
sys.meta_path.insert(0, Watch())
from {module} import main
main({verb})
import torch
"""
    assert "WAITS None 1000" in python(watch)
    assert "WAITS ACTIVE None" in python(watch, OMP_WAIT_POLICY="ACTIVE")
    assert "WAITS None" in python(watch, GOMP_SPINCOUNT="10")


def test_public_names_come_without_torch_until_they_are_used():
    import adaqf_train

    assert python("import adaqf_train, sys; print('torch' in sys.modules)").strip() == "False"
    home = inspect.getclosurevars(adaqf_train.__getattr__).nonlocals["home"]
    assert set(adaqf_train.__all__) == set(home) == set(dir(adaqf_train))
    for name in adaqf_train.__all__:
        assert getattr(adaqf_train, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Generator'"):
        adaqf_train.Generator  # noqa: B018


def test_module_and_script_are_the_command(capsys):
    for command in (["-m", "adaqf_train"], ["adaqf_train/run.py"]):
        done = subprocess.run(
            [sys.executable, *command, "plan", "--help"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "usage: adaqf plan" in done.stdout
    script = re.search(r'^adaqf = "(.+):(.+)"$', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert script.groups() == ("adaqf_train.cli", "main")
    assert cli.main is main
