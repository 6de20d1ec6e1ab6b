"""The complete generator: saved whole, loaded whole, self-contained, and seeded prompt by prompt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adaclip import AdaCLIPError
from adaclip.files import read_json, write_json
from adaqf_train import seeding
from adaqf_train.errors import ArtefactError, ConfigError
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.requests import LONGEST
from adaqf_train.motion.features import decode
from tests.helpers import FLOAT32, PROMPTS, deviation


def test_a_saved_generator_generates_the_same_wherever_its_folder_goes(generator, base, tmp_path):
    folder = generator.save_pretrained(tmp_path / "run" / "adaqf")
    expected = generator.generate(PROMPTS, seconds=2.0, seed=3)
    moved = Path(shutil.move(str(folder), str(tmp_path / "elsewhere")))
    again = MotionGenerator.from_pretrained(moved).generate(PROMPTS, seconds=2.0, seed=3)
    for a, b in zip(expected, again, strict=True):
        assert a.shape == (40, 22, 3)
        np.testing.assert_array_equal(a, b)
    other = MotionGenerator.from_pretrained(moved).generate(PROMPTS, seconds=2.0, seed=4)
    assert np.abs(other[0] - expected[0]).max() > 1e-3  # control: the seed counts


def test_a_generator_has_one_configuration_and_no_pickles(generator, tmp_path):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    assert (folder / "config.json").is_file()
    assert not (folder / "encoder" / "config.json").exists()
    assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_motions_depend_on_prompt_seed_and_place_not_on_the_batch(generator, scheduler, guidance):
    """Normalised features within 1e-4 and joints within a millimetre, whatever else is asked for beside them."""
    lengths, options = [2.0, 9.8, 1.0], {"scheduler": scheduler, "steps": 2, "guidance": guidance}

    def make(prompts, seconds, **others):
        return generator.generate(prompts, seconds=seconds, output="features", **options, **others)

    reference = make(PROMPTS, lengths, batch_size=2)
    assert [len(v) for v in reference] == [40, 196, 20]
    for others in ({"batch_size": 1}, {"batch_size": 64}, {"num_samples": 3}):
        made = make(PROMPTS, lengths, **others)[:: others.get("num_samples", 1)]
        for a, b in zip(reference, made, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
            np.testing.assert_allclose(decode(a), decode(b), atol=1e-3)
    beside = make(["someone sits down on a chair for a long time", PROMPTS[1], "no"], [0.4, 9.8, 5.0])
    np.testing.assert_allclose(beside[1], reference[1], atol=1e-4)
    longer = make([*PROMPTS, *PROMPTS], [*lengths, 0.2, 3.0, 9.0])
    np.testing.assert_allclose(longer[2], reference[2], atol=1e-4)
    # Controls: the place, the seed, the length and the sample count.
    assert np.abs(longer[3] - make(PROMPTS[:1], 0.2)[0]).max() > 1e-3
    assert np.abs(make(PROMPTS, lengths, seed=1)[1] - reference[1]).max() > 1e-3
    assert np.abs(make(PROMPTS, lengths, num_samples=2)[1] - reference[0]).max() > 1e-3


def test_motions_do_not_depend_on_earlier_calls(generator, monkeypatch):
    """A prompt that was encoded in another batch differs in its last digits, so those of earlier calls are dropped."""
    found, cache = [], type(generator.encoder.cache)
    get = cache.get
    monkeypatch.setattr(cache, "get", lambda self, *key, **options: found.append(get(self, *key, **options)))
    for _ in range(2):
        generator.generate(PROMPTS, seconds=2.0)
    assert found == [None] * 2 * len(PROMPTS)


def test_the_first_sample_draws_what_evaluations_draw(generator):
    """Reports are made of motions whose noise is seeded with (seed, i)."""
    made = generator.generate(PROMPTS, seconds=2.0, seed=5, num_samples=2, output="features")
    for a, b in zip(made[::2], generator.generate_features(PROMPTS, [40] * 3, seed=5), strict=True):
        assert deviation(a, b) < FLOAT32
    seen = []
    generator.diffusion.sample = lambda predict, mask, features, *, noise, **_: (
        seen.extend(noise.items.tolist()) or torch.zeros(*mask.shape, features)
    )
    generator.generate(PROMPTS, seconds=2.0, seed=5)
    assert seen[1] == seeding.mix(5, 1)


def test_samples_of_a_prompt_follow_each_other_and_differ(generator):
    made = generator.generate(PROMPTS[:2], seconds=[2.0, 1.0], num_samples=3)
    assert [len(motion) for motion in made] == [40] * 3 + [20] * 3
    assert min(np.abs(made[a] - made[b]).max() for a, b in [(0, 1), (0, 2), (1, 2), (3, 4)]) > 1e-3


def test_each_text_is_encoded_once(generator, monkeypatch):
    texts = []
    encode = generator.encoder.encode
    monkeypatch.setattr(generator.encoder, "encode", lambda t, **options: texts.append(list(t)) or encode(t, **options))
    generator.generate(["a | b", "b", "a"], seconds=2.0, num_samples=3, batch_size=1)
    assert texts == [["a", "b"]]


def test_options_of_a_call_count_and_leave_the_models_own_alone(generator):
    before, steps = generator.sampling, []
    count = {"on_step": lambda: steps.append(1)}
    plain = generator.generate(PROMPTS[:1], seconds=2.0, **count)[0]
    assert len(steps) == before.steps
    for options in ({"guidance": 1.0}, {"steps": 7}, {"scheduler": "dpm++", "steps": 5}, {"scheduler": "ddpm"}):
        assert np.abs(generator.generate(PROMPTS[:1], seconds=2.0, **options)[0] - plain).max() > 1e-4
    assert generator.sampling == before


def test_guidance_one_is_the_conditional_model_at_half_the_cost(generator):
    rows = []
    generator.denoiser.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    one = generator.generate(PROMPTS, seconds=2.0, guidance=1.0, batch_size=3, output="features")
    assert set(rows) == {3}
    for a, b in zip(one, generator.generate(PROMPTS, seconds=2.0, guidance=1 + 1e-9, output="features"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert set(rows) > {3}


def test_the_adapter_shapes_the_motion(generator):
    adapted = generator.generate(PROMPTS[:1], seconds=2.0)[0]
    for name, parameter in generator.encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    assert np.abs(generator.generate(PROMPTS[:1], seconds=2.0)[0] - adapted).max() > 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "There is no prompt"),
        ({"prompts": [" "]}, "is blank"),
        ({"seconds": 0}, r"seconds must lie between 0\.2 and 9\.8, got 0"),
        ({"seconds": -1.0}, r"seconds must lie between 0\.2 and 9\.8"),
        ({"seconds": 10.0}, r"between 0\.2 and 9\.8, got 10\.0 .* write more segments"),
        ({"seconds": [1.0, 2.0]}, "seconds has 2 values for 1 prompts"),
        ({"scheduler": "euler"}, r"scheduler must be one of ddpm, ddim, dpm\+\+, got 'euler'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": 51}, "steps must lie between 1 and the 50 of the training, got 51"),
        ({"guidance": -0.1}, "guidance must be at least 0"),
        ({"guidance": float("nan")}, "guidance must be a finite number"),
        ({"guidance": float("inf")}, "guidance must be a finite number"),
        ({"guidance": "high"}, "guidance must be a finite number"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1"),
        ({"num_samples": 1.5}, "num_samples must be a whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": None}, "seed must be a whole number"),
        ({"long": "cut"}, "long must be one of warn, error, chunk, got 'cut'"),
        ({"seconds": 1e308}, "seconds must lie between"),
        ({"prompts": "a" * 10_000}, "has 10000 characters, more than 2000"),
        ({"output": "bvh"}, "output must be one of joints, features, got 'bvh'"),
    ],
)
def test_what_does_not_hold_is_refused_before_anything_is_computed(generator, options, message, monkeypatch):
    monkeypatch.setattr(generator.encoder, "encode", None)
    with pytest.raises(ConfigError, match=message) as refusal:
        generator.generate(**{"prompts": PROMPTS[:1], **options})
    assert "sampling." not in str(refusal.value)


def test_motions_that_overflow_are_refused(generator):
    with pytest.raises(ConfigError, match=r"guidance 1e\+30 makes the motion overflow: lower it"):
        generator.generate(PROMPTS[:1], seconds=1.0, guidance=1e30)
    generator.generate(PROMPTS[:1], seconds=1.0, guidance=10.0)


def test_a_prompt_that_is_no_string_is_refused(generator):
    with pytest.raises(TypeError, match="Prompt 1 is int"):
        generator.generate(["a person walks", 3])


def test_very_long_prompts_follow_the_encoders_rules(generator):
    endless = "a person walks forward, " * 80
    assert 1900 < len(endless) < LONGEST
    with pytest.warns(UserWarning, match="the encoder does not see"):
        (cut,) = generator.generate([endless], seconds=2.0)
    assert np.isfinite(cut).all()
    with pytest.raises(ValueError, match="the encoder does not see"):
        generator.generate([endless], seconds=2.0, long="error")
    (whole,) = generator.generate([endless], seconds=2.0, long="chunk")
    assert np.abs(whole - cut).max() > 1e-5


def test_half_precision_computes_and_is_not_far(generator, tmp_path):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    half = MotionGenerator.from_pretrained(folder, dtype=torch.bfloat16)
    assert next(half.denoiser.parameters()).dtype == torch.bfloat16
    full = generator.generate(PROMPTS, seconds=2.0, output="features")
    for a, b in zip(half.generate(PROMPTS, seconds=2.0, output="features"), full, strict=True):
        assert a.dtype == np.float32
        assert 0 < np.abs(a - b).mean() < 0.05


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_incomplete_generators_are_refused(generator, tmp_path, name):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match="adaqf"):
        MotionGenerator.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name}: missing"):
        MotionGenerator.from_pretrained(folder)


def rewrite_config(folder: Path, **changes: object) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | changes)


def rewrite_tensors(path: Path, **changes: torch.Tensor) -> None:
    save_file({**load_file(path), **changes}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: rewrite_config(f, features=10), "cannot be loaded"),
        (lambda f: rewrite_config(f, unit_frames="four"), "unit_frames 'four'"),
        (lambda f: rewrite_config(f, unit_frames=6), "unit_frames 6"),
        (lambda f: rewrite_config(f, max_frames=3), "max_frames 3"),
        (lambda f: rewrite_config(f, sampling={"scheduler": "euler"}), "scheduler must be one of"),
        (lambda f: rewrite_config(f, sampling={"stride": 3}), "stride"),
        (lambda f: rewrite_config(f, denoiser=None), "cannot be loaded"),
        (lambda f: rewrite_tensors(f / "model.safetensors", std=torch.zeros(263)), "std must be positive"),
        (lambda f: rewrite_tensors(f / "model.safetensors", mean=torch.ones(251)), "size mismatch for mean"),
        (lambda f: rewrite_tensors(f / "model.safetensors", mean=torch.full((263,), np.nan)), "tensor mean holds NaN"),
        (
            lambda f: rewrite_tensors(f / "model.safetensors", stranger=torch.ones(2)),
            "stranger",
        ),
        (
            lambda f: rewrite_tensors(
                f / "model.safetensors", **{"denoiser.text_in.bias": torch.full((16,), float("nan"))}
            ),
            "text_in.bias holds NaN",
        ),
        (lambda f: (f / "encoder" / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda f: shutil.rmtree(f / "encoder"), "encoder: no such adapter folder"),
        (lambda f: shutil.rmtree(f / "base"), "base"),
    ],
)
def test_folders_that_do_not_fit_are_refused_in_one_sentence(generator, tmp_path, damage, message):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    MotionGenerator.from_pretrained(folder)  # the control: it was in order before
    damage(folder)
    with pytest.raises((ArtefactError, AdaCLIPError), match=message) as refusal:
        MotionGenerator.from_pretrained(folder)
    assert "\n" not in str(refusal.value)


def test_saving_replaces_generators_only(generator, tmp_path):
    folder = generator.save_pretrained(tmp_path / "adaqf")
    (folder / "model.safetensors").unlink()
    generator.save_pretrained(folder)  # a damaged one as well
    MotionGenerator.from_pretrained(folder)
    (folder / "thesis.tex").write_text("")
    with pytest.raises(AdaCLIPError, match=r"adaqf: holds thesis.tex, which saving here would delete"):
        generator.save_pretrained(folder)
    assert (folder / "thesis.tex").exists()
