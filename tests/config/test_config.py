"""Configurations check themselves, take overrides, and return from JSON unchanged."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from adaqf_train.config import (
    RunConfig,
    build,
    digest,
    override,
    recipes,
    settings_between,
)
from adaqf_train.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["demo", "aligned", "pocket", "humanml3d", "kit"])
def test_recipes_come_back_from_json(name):
    config = recipes.load(name)
    assert config.recipe == name
    assert build(RunConfig, json.loads(json.dumps(asdict(config)))) == config


def test_recipe_humanml3d_is_the_papers_setting():
    """Section 4.1 and 4.4 of the paper; MDM where the paper refers to it."""
    config = recipes.load("humanml3d")
    assert (config.diffusion.steps, config.sampling.guidance) == (50, 2.5)
    assert (config.feedback.motion, config.feedback.text, config.feedback.weighting) == (10, 2, "uniform")
    assert (config.training.steps, config.training.drop_at, config.training.drop_by) == (600_000, 300_000, 0.1)
    assert (config.training.batch, recipes.load("kit").training.batch) == (64, 32)
    assert (config.encoder.rank, config.encoder.alpha, config.training.learning_rate) == (16, 16, 1e-4)
    assert (config.data.min_frames, recipes.load("kit").data.min_frames, config.data.max_frames) == (40, 24, 200)
    assert config.encoder.base == "openai/clip-vit-base-patch32"


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_baseline_differs_in_feedback_encoder_and_alignment_only(recipe):
    config = recipes.load(recipe)
    a, b = asdict(config), asdict(config.baseline())
    changed = {
        f"{group}.{name}"
        for group, values in a.items()
        if isinstance(values, dict)
        for name in values
        if values[name] != b[group][name]
    }
    aligned = {name for name in changed if name.startswith("alignment.")}
    assert bool(aligned) == (config.alignment.steps > 0)
    assert changed - aligned == {"feedback.motion", "feedback.text", "encoder.tuning"}


def test_override_applies_all_settings_in_order():
    config = override(
        RunConfig(),
        [
            "diffusion.steps=40",
            "sampling.steps=10",
            "training.learning_rate=2e-4",
            "training.steps=1_000",
            "training.ema=none",
            "feedback.on_dropped_text=true",
            "denoiser.conditioning=pooled",
            "diffusion.steps=30",
        ],
    )
    assert (config.diffusion.steps, config.sampling.steps, config.training.steps) == (30, 10, 1000)
    assert config.training.learning_rate == 2e-4
    assert config.training.ema is None
    assert config.feedback.on_dropped_text is True
    assert config.denoiser.conditioning == "pooled"
    assert override(RunConfig(), []) == RunConfig()
    lists = override(RunConfig(), ["encoder.modules=q_proj, fc1", "training.trackers="])
    assert (lists.encoder.modules, lists.training.trackers) == (("q_proj", "fc1"), ())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("diffusion.step=50", "no setting 'diffusion.step'. The nearest one is 'diffusion.steps'"),
        ("trainig.batch=3", "The nearest one is 'training.batch'"),
        ("lambda_m=3", "The nearest one is"),
        ("diffusion.steps", "expected name=value"),
        ("diffusion.steps=fifty", "diffusion.steps must be a whole number, got 'fifty'"),
        ("diffusion.steps=50.5", "must be a whole number, got '50.5'"),
        ("feedback.on_dropped_text=1", "must be true or false"),
        ("denoiser.conditioning=all", "must be one of tokens, pooled, both, got 'all'"),
        ("diffusion.text_drop=1.5", r"diffusion.text_drop must be in \[0, 1\), got 1.5"),
        ("feedback.hidden=0.5 denoiser.arch=encoder", "feedback.hidden needs a decoder"),
        ("feedback.hidden=0.5 denoiser.frames_per_token=8 data.unit_frames=8", "tokens of 1, 2 or 4 frames"),
        ("training.adapter_learning_rate=1e-4 encoder.tuning=frozen", "trains no text encoder"),
        ("denoiser.width=130", r"denoiser.width must be divisible by denoiser.heads \(4\), got 130"),
        ("denoiser.frames_per_token=3", "must be 1 or even, got 3"),
        ("denoiser.frames_per_token=6", r"must be a multiple of denoiser.frames_per_token"),
        ("sampling.steps=60", r"sampling.steps \(60\) must not exceed diffusion.steps \(50\)"),
        ("sampling.scheduler=euler", "must be one of ddpm, ddim, dpm\\+\\+, got 'euler'"),
        ("sampling.guidance=-1", "sampling.guidance must be at least 0, got -1.0"),
        ("sampling.guidance=nan", "sampling.guidance must be a finite number, got nan"),
        ("denoiser.heads=0", "denoiser.heads must be at least 1"),
        ("sampling.guidance=1e400", "sampling.guidance must be a finite number, got inf"),
        ("training.steps=0", "training.steps must be at least 1, got 0"),
        ("training.ema=1", r"training.ema must be none or in \(0, 1\), got 1.0"),
        ("data.unit_frames=2", "data.unit_frames must be a multiple of 4"),
        ("evaluation.pool=2", "evaluation.pool must be at least 3"),
        ("evaluation.max_samples=1", "evaluation.max_samples must be none or at least 8"),
        ("evaluation.protocol=mdm", "must be one of full, mdm1024"),
        ("evaluation.multimodality_texts=0", "evaluation.multimodality_texts must be none or at least 1"),
        ("evaluation.multimodality_repeats=1", "evaluation.multimodality_repeats must be at least 2"),
        ("evaluation.multimodality_pairs=31", r"between 1 and multimodality_repeats \(30\), got 31"),
        ("training.seed=-1", "training.seed must be at least 0"),
        ("training.adapter_learning_rate=0", "training.adapter_learning_rate must be none or positive"),
        ("training.learning_rate=0", "training.learning_rate must be positive"),
        ("synthetic.clips=10", "synthetic.clips must be at least 100"),
        ("encoder.rank=0", "encoder: LoRA needs rank >= 1"),
        ("encoder.modules=q_proj,head", r"encoder: Unknown LoRA modules \['head'\]"),
        ("encoder.modules=", "encoder: Unknown LoRA modules"),
        ("encoder.dropout=1", r"encoder: LoRA dropout must lie in \[0, 1\)"),
        ("encoder.tuning=none", "must be one of lora, frozen, full"),
        ("data.samples=1", "data.samples must be none or at least 2"),
        ("data.samples_seed=-1", "data.samples_seed must be at least 0"),
        ("feedback.max_timestep=50", r"feedback.max_timestep \(50\) must be below diffusion.steps \(50\)"),
        ("feedback.judge=official", "feedback.judge=official needs the folder"),
        ("training.accumulate=5", r"training.batch \(64\) must be divisible by training.accumulate \(5\)"),
        ("training.warmup=-1", "training.warmup must be at least 0"),
        ("training.keep=0", "training.keep must be at least 1, got 0"),
        ("training.max_loss=0", "training.max_loss must be positive"),
        (
            "training.trackers=tensorbord",
            "training.trackers must be one of tensorboard, wandb, got \\('tensorbord',\\)",
        ),
        ("validation.every=0", "validation.every must be none or at least 1"),
        ("validation.samples=7", "validation.samples must be at least 8"),
        ("validation.patience=0", "validation.patience must be none or at least 1"),
        ("validation.metric=skating", "must be one of fid, r_precision_3, mm_dist"),
    ],
)
def test_override_names_a_setting_that_does_not_hold(setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        override(RunConfig(), setting.split(" "))
    assert "\n" not in str(caught.value)


TEXTS = [
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "9" * 21,
    "9" * 5000,
    "x",
    "",
    "none",
    "true",
    "[1]",
    "1e-320",
]
VALUES = [0, -1, -0.0, 1.5, 1e-320, math.nan, math.inf, 1e308, 10**30, 10**400, 10**5000, "x", "", None, True, [], [1]]
VALUES += [[[1]], [None], {"a": 1}, "x" * 10_000]


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_settings_take_odd_values_or_refuse_them_in_a_line(recipe):
    """Every field of every recipe, by --set and from JSON; numbers that are taken fit int64 and float32."""
    config, content = recipes.load(recipe), asdict(recipes.load(recipe))
    fields = [(group, name) for group, values in content.items() if isinstance(values, dict) for name in values]
    tried, said = 0, []
    for group, name in fields:
        attempts = [(override, config, [f"{group}.{name}={text}"]) for text in TEXTS]
        attempts += [(build, RunConfig, {**content, group: {**content[group], name: value}}) for value in VALUES]
        for read, of, given in attempts:
            tried += 1
            try:
                value = getattr(getattr(read(of, given), group), name)
            except ConfigError as error:
                said.append((name, str(error)))
            else:
                assert not isinstance(value, int | float) or abs(value) <= 1e30
    assert tried == len(fields) * (len(TEXTS) + len(VALUES)) > 5000
    assert len(said) > tried / 2
    for name, message in said:
        assert name in message or "LoRA" in message
        assert "\n" not in message
        assert len(message) < 400


@pytest.mark.parametrize("value", [None, 3, [], "x", [{}]])
def test_build_refuses_anything_in_the_place_of_a_group(value):
    content = asdict(RunConfig())
    for group in content:
        if group != "recipe" or not isinstance(value, str):
            with pytest.raises(ConfigError, match=r"does not fit this version|recipe must be"):
                build(RunConfig, content | {group: value})


def test_override_refuses_the_name_of_a_recipe():
    with pytest.raises(ConfigError, match="Choose it with --recipe"):
        override(RunConfig(), ["recipe=kit"])


def test_load_and_from_dict_name_what_does_not_exist():
    with pytest.raises(ConfigError, match="no recipe 'tiny': choose from demo, aligned, pocket, humanml3d, kit"):
        recipes.load("tiny")
    content = asdict(RunConfig())
    content["training"]["speed"] = 3
    with pytest.raises(ConfigError, match="speed"):
        build(RunConfig, content)


PUBLISHED = [
    json.loads(path.read_text(encoding="utf-8"))["manifest"]
    for pattern in ("docs/studies/results/*.json", "results/**/*.json")
    for path in sorted(CHECKOUT.glob(pattern))
]


def test_from_dict_reads_every_published_result():
    contents = [manifest["config"] for manifest in PUBLISHED if "config" in manifest]
    assert len(contents) >= 60
    for content in contents:
        read = json.loads(json.dumps(asdict(build(RunConfig, content))))
        for name, value in content.items():
            kept = {key: read[name][key] for key in value} if isinstance(value, dict) else read[name]
            assert kept == value, name


def test_from_dict_refuses_values_of_another_type():
    for group, name, value in (("training", "steps", "ten"), ("sampling", "guidance", None), ("encoder", "base", 3)):
        content = asdict(RunConfig())
        content[group][name] = value
        with pytest.raises(ConfigError, match=f"{group}.{name} must be"):
            build(RunConfig, content)
    with pytest.raises(ConfigError, match="does not fit this version"):
        build(RunConfig, asdict(RunConfig()) | {"training": 3})


def test_settings_between_are_what_override_takes():
    before = recipes.load("humanml3d")
    settings = ["training.ema=none", "training.cache_text=true", "encoder.modules=q_proj,fc1", "feedback.motion=0.5"]
    after = override(before, settings)
    assert sorted(settings_between(before, after)) == sorted(settings)
    assert override(before, settings_between(before, after)) == after
    assert settings_between(before, before) == []


def documented(kind: type) -> set[str]:
    """Fields of a group, or of its bases, that have a comment beside them or a docstring below them."""
    found = set()
    for base in kind.__mro__[:-1]:
        source = inspect.getsource(base)
        for field, following in itertools.pairwise([*ast.parse(source).body[0].body, None]):
            if isinstance(field, ast.AnnAssign):
                text = source.splitlines()[field.end_lineno - 1].partition("  # ")[2]
                text = following.value.value if isinstance(following, ast.Expr) else text
                if text:
                    assert text.endswith("."), f"{base.__name__}.{field.target.id}"
                    found.add(field.target.id)
    return found


def test_settings_are_all_documented_in_full_phrases():
    """Comments and docstrings of fields are the help of the command line's flags."""
    for group in asdict(RunConfig()).keys() - {"recipe"}:
        kind = type(getattr(RunConfig(), group))
        assert {field.name for field in dataclasses.fields(kind)} <= documented(kind), kind


def test_digest_differs_with_any_setting():
    config = asdict(RunConfig())
    assert digest(config) == digest(asdict(RunConfig()))
    assert digest(config) != digest(asdict(override(RunConfig(), ["training.seed=1"])))
