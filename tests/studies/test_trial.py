"""What a trial is under a recipe, and what has changed since its result was stored."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from adaqf_train.cli.study import StudyVerb
from adaqf_train.config import override
from adaqf_train.config.recipes import RECIPES
from adaqf_train.errors import ConfigError
from adaqf_train.studies import trial
from adaqf_train.studies.definitions import STUDIES
from adaqf_train.studies.trial import Setup
from tests.studies.published import base_of, published

IMPROVED = STUDIES["improvements"].arms
DATA = ("procedural=a", "bandai-namco=b")


def setup(recipe: str = "pocket", *settings: str, base: Path | None = None, study: str = "any") -> Setup:
    config = override(RECIPES[recipe], settings)
    return StudyVerb(study, DATA, recipe=recipe, settings=settings, base=base, config=config).setup()


@pytest.mark.parametrize(
    ("recipe", "motion", "text"), [("pocket", 0.06, 0.3), ("aligned", 0.06, 0.3), ("humanml3d", 30, 6), ("kit", 30, 6)]
)
def test_setup_applies_factors_on_every_recipe(recipe, motion, text):
    for name in ("heavier", "both"):
        config = setup(recipe).arm_config(IMPROVED[name], 0)
        assert (config.feedback.motion, config.feedback.text) == (motion, text)


def test_recipe_aligned_trains_as_the_arm_of_the_study():
    found, recipe = setup().arm_config(STUDIES["method"].arms["aligned_light"], 0), RECIPES["aligned"]
    own = {name: getattr(recipe, name) for name in ("recipe", "training", "validation", "evaluation")}
    assert replace(found, **own) == recipe


def test_setup_resolves_factors_before_naming_a_trial():
    found = setup().trial("procedural", IMPROVED["heavier"], 0)
    assert found.settings[-2:] == ("feedback.motion=0.06", "feedback.text=0.3")  # as published
    other = setup("pocket", "feedback.motion=0.05").trial("procedural", IMPROVED["heavier"], 0)
    assert other.settings[-2] == "feedback.motion=0.15"


def test_setup_refuses_factors_of_zero():
    with pytest.raises(ConfigError, match=r"feedback.text\*=3: feedback.text is 0.0 for all arms.* Set feedback.text"):
        setup("pocket", "feedback.text=0").trial("procedural", IMPROVED["heavier"], 0)


# Some recipes have pooled text, physics and an aligned start already, which are arms of the studies.
@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"demo", "aligned"}))
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_setup_gives_every_arm_its_own_trial(study, recipe, monkeypatch):
    monkeypatch.setattr(trial, "hash_of_base", lambda folder: "0" * 64)
    found = setup(recipe, base=Path("base"))
    names = [found.trial("procedural", arm, 0).name for arm in study.arms.values()]
    assert len(set(names)) == len(names)
    if not study.may_coincide:
        found.check_arms(study.arms)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("components", "encoder.tuning=full"),
        ("components", "encoder.tuning=frozen"),
        ("convergence", "denoiser.conditioning=pooled"),
        ("feedback", "extractors.objective=margin"),
        ("improvements", "feedback.weighting=alpha_bar"),
        ("samples", "data.samples=500"),
    ],
)
def test_setup_refuses_arms_that_coincide(name, setting):
    with pytest.raises(ConfigError, match="are the same training"):
        setup("pocket", setting).check_arms(STUDIES[name].arms)


def test_results_published_load_and_belong_to_current_arms(monkeypatch):
    kept = published()
    assert kept
    assert all(result.trial.name == name for name, result in kept.items())
    monkeypatch.setattr(trial, "hash_of_base", lambda folder: folder.name.ljust(64, "0"))
    monkeypatch.setattr(trial, "is_procedural", lambda folder: folder.name == "a")
    found = set()
    for study, based in itertools.product(STUDIES.values(), (False, True)):
        if study.name == "datasets" and not based:
            continue  # it refuses to run without a base
        now = setup(base=Path(base_of(study)) if based else None, study=study.name)
        for label in now.data:
            for arm in study.arms.values():
                for seed in range(study.seeds):
                    result = kept.get(now.trial(label, arm, seed).name)
                    if result is not None:
                        assert now.at(label).changes(arm, seed, result.manifest) == ""
                        found.add(result.trial.name)
    assert found == kept.keys()


def test_setup_makes_further_procedural_motions_for_procedural_data_alone(monkeypatch):
    monkeypatch.setattr(trial, "is_procedural", lambda folder: folder.name == "a")
    found, arm = setup(study="method"), STUDIES["method"].arms["baseline"]
    trials = {label: found.trial(label, arm, 0).settings for label in found.data}
    assert set(trials["procedural"]) - set(trials["bandai-namco"]) == {
        "evaluation.procedural_test=512",
        "evaluation.procedural_val=200",
    }
    assert set(trials["bandai-namco"]) < set(trials["procedural"])
    assert all(found.at(at).trial(label, arm, 0).settings == trials[label] for at in found.data for label in trials)
    configs = {label: found.at(label).arm_config(arm, 0).evaluation for label in found.data}
    plain = RECIPES["pocket"].evaluation
    assert (configs["procedural"].procedural_test, configs["procedural"].procedural_val) == (512, 200)
    assert configs["bandai-namco"].procedural_test is None
    assert configs["bandai-namco"].procedural_val == plain.procedural_val
    assert configs["bandai-namco"].replications == configs["procedural"].replications == 1


def test_setup_names_changes_since_a_result():
    now, arm = setup(), STUDIES["transfer"].arms["latent_adaclip"]
    manifest = {"config": asdict(now.arm_config(arm, 0)), "families": asdict(now.families)}
    assert now.changes(arm, 0, manifest) == ""
    manifest["config"]["training"]["batch"] = 99
    manifest["families"]["latent"]["denoiser"]["width"] = 7
    assert now.changes(arm, 0, manifest) == (
        "config.training.batch: 99 -> 32, families.latent.denoiser.width: 7 -> 128"
    )
