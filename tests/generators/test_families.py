"""Every family of generators: one public face, one folder format, one registry, and the commands that use them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from adaclip.files import read_json, write_json
from adaqf_train import generators
from adaqf_train.cli import main
from adaqf_train.cli.ui import Ui
from adaqf_train.errors import ArtefactError, ConfigError
from adaqf_train.generators import registry
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.registry import Fitting
from adaqf_train.runs.settings import changes
from adaqf_train.studies.transfer import families_of
from adaqf_train.training.loop import Place
from adaqf_train.userstudy.collect import collect
from tests.cli.test_cli import error_of
from tests.generators.families import encoder_of, generator_of
from tests.helpers import FLOAT32, PROMPTS, blocks, deviation

CHECKOUT = Path(__file__).resolve().parents[2]
FAMILIES = ["latent", "masked", "mdm"]
PAGE = CHECKOUT / "docs" / "adding-a-family.md"


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved generator of each family. Read them, do not write to them."""
    place = tmp_path_factory.mktemp("families")
    return {name: generator_of(name, base).save_pretrained(place / name) for name in FAMILIES}


def write_first_format(generator: MotionGenerator, folder: Path) -> Path:
    """The folder of a generator as versions before the common format wrote it."""
    shutil.copytree(generator.encoder.base, folder / "base")
    generator.encoder.save_pretrained(folder / "encoder", base=folder / "base")
    if generator.family == "mdm":
        config = {
            "features": 263,
            "unit_frames": 4,
            "max_frames": 200,
            "denoiser": asdict(generator.denoiser.config),
            "diffusion": {"steps": 50, "text_drop": 0.1},
            "sampling": {"guidance": 2.5, "scheduler": "ddim", "steps": 2, "batch": 2},
        }
        save_file(generator.denoiser.state_dict(), folder / "denoiser.safetensors")
        save_file({"mean": generator.mean, "std": generator.std}, folder / "statistics.safetensors")
        (folder / "README.md").write_text("# Text-to-motion generator\n")
    else:
        save_file(dict(generator.state_dict()), folder / "model.safetensors")
        parts = {
            "latent": ("autoencoder", "denoiser", "diffusion", "sampling"),
            "masked": ("tokenizer", "masked", "residual", "sampling"),
        }[generator.family]
        config = {"family": generator.family, "features": 263}
        config |= {part: asdict(getattr(generator.config, part)) for part in parts}
        config |= {"levels": 2} if generator.family == "masked" else {}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_folders_of_earlier_versions_load_and_are_saved_in_the_common_format(name, base, tmp_path):
    generator = generator_of(name, base)
    old = write_first_format(generator, tmp_path / "old")
    loaded = MotionGenerator.from_pretrained(old)
    if name == "masked":
        assert loaded.levels == 2
        generator.levels = 2
    for a, b in zip(loaded.generate(PROMPTS), generator.generate(PROMPTS), strict=True):
        assert deviation(a, b) < FLOAT32
    loaded.save_pretrained(old)
    assert {path.name for path in old.iterdir()} == {
        *("README.md", "base", "config.json", "digests.json", "encoder", "model.safetensors")
    }
    assert read_json(old / "config.json")["family"] == name
    again = MotionGenerator.from_pretrained(old).generate(PROMPTS[:1])[0]
    assert deviation(again, generator.generate(PROMPTS[:1])[0]) < FLOAT32


def test_from_pretrained_dispatches_on_the_family(folders, tmp_path):
    for name, folder in folders.items():
        own = registry.family(name)
        assert type(MotionGenerator.from_pretrained(folder)) is own.generator
        assert own.name == name
        other = registry.family("mdm" if name == "latent" else "latent").generator
        with pytest.raises(ArtefactError, match=f"a {name} generator, expected {other.family}"):
            other.from_pretrained(folder)
    strange = Path(shutil.copytree(folders["latent"], tmp_path / "strange"))
    write_json(strange / "config.json", read_json(strange / "config.json") | {"family": "gan"})
    with pytest.raises(ArtefactError, match=r"no family of generators 'gan': choose from latent, masked, mdm"):
        MotionGenerator.from_pretrained(strange)


@pytest.mark.parametrize("name", FAMILIES)
def test_generate_checks_and_makes_the_same_in_every_family(name, folders):
    generator = MotionGenerator.from_pretrained(folders[name])
    steps = []
    made = generator.generate(PROMPTS, seconds=[2.0, 1.0, 3.0], seed=3, num_samples=2, on_step=lambda: steps.append(1))
    assert [motion.shape for motion in made] == [(n, 22, 3) for n in (40, 40, 20, 20, 60, 60)]
    assert len(steps) == 3 * generator.steps
    features = generator.generate(PROMPTS, seconds=[2.0, 1.0, 3.0], seed=3, output="features", batch_size=1)
    assert [motion.shape for motion in features] == [(40, 263), (20, 263), (60, 263)]
    for a, b in zip(features, generator.generate_features(PROMPTS, [40, 20, 60], seed=3), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert np.abs(made[0] - made[1]).max() > 1e-4
    for options in ({"guidance": 50.0}, {"steps": 1}, {"seed": 4}):
        again = generator.generate(PROMPTS[:1], **({"seed": 3} | options), seconds=2.0, output="features")[0]
        assert np.abs(again - features[0]).max() > 1e-4, options
    for options, message in (
        ({"seconds": 11.0}, r"seconds must lie between 0\.2 and 9\.8"),
        ({"prompts": [" "]}, "is blank"),
        ({"seed": -1}, "seed must be"),
        ({"steps": 2.5}, "^steps must be"),
        ({"guidance": -1.0}, "^guidance must be"),
        ({"batch_size": 0}, "^batch_size must be"),
        ({"num_samples": 0}, "num_samples must be"),
        ({"output": "bvh"}, "output must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            generator.generate(**({"prompts": PROMPTS} | options))


@pytest.mark.parametrize("name", ["latent", "masked"])
def test_generate_refuses_what_a_family_cannot_do(name, folders):
    generator = MotionGenerator.from_pretrained(folders[name])
    with pytest.raises(ConfigError, match=r"has segments, and this family makes motions in one piece"):
        generator.generate("a person walks | a person sits")
    with pytest.raises(ConfigError, match="seconds must lie between") as refusal:
        generator.generate(PROMPTS, seconds=30.0)
    assert "segments" not in str(refusal.value)
    with pytest.raises(ConfigError, match=f"the family {name} .* cannot edit motions"):
        generator.edit(np.zeros((40, 22, 3)), PROMPTS[0], "lower_body")
    if name == "masked":
        with pytest.raises(ConfigError, match="scheduler: a generator of the family masked has no such setting"):
            generator.generate(PROMPTS, scheduler="ddim")
    else:
        with pytest.raises(ConfigError, match="steps must lie between 1 and the 50 of the training"):
            generator.generate(PROMPTS, steps=51)


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_casts_the_networks_and_not_the_statistics(name, folders):
    half = MotionGenerator.from_pretrained(folders[name], dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.mean.dtype == half.std.dtype == torch.float32
    (motion,) = half.generate(PROMPTS[:1], output="features")
    assert motion.dtype == np.float32
    assert np.isfinite(motion).all()


@pytest.mark.parametrize("name", ["latent", "masked"])
def test_commands_take_every_family(name, folders, tiny_data, tmp_path, capsys):
    """The commands refused these folders with "Give the folder of a generator"."""
    folder = Path(shutil.copytree(folders[name], tmp_path / f"my-{name}"))
    out = tmp_path / "motion.npy"
    assert main(["sample", "--model", str(folder), "--prompt", PROMPTS[0], "--seed", "3", "--out", str(out)]) == 0
    expected = MotionGenerator.from_pretrained(folder).generate(PROMPTS[:1], seed=3)[0]
    np.testing.assert_allclose(np.load(out), expected, atol=1e-6)
    long = ["sample", "--model", str(folder), "--prompt", "a | b", "--out", str(out)]
    assert "in one piece" in error_of(capsys, long)

    page, files = Ui(model=(folder,)).studio(tmp_path).make(PROMPTS[0], 4.0, 3, [folder.name])
    assert "iframe" in page
    (array,) = [file for file in files if file.endswith(".npy")]
    np.testing.assert_allclose(np.load(array), expected, atol=1e-5)

    questions, fps = collect([], {}, prompts=2, generators=[folder], data=tiny_data, real=True)
    assert fps == 20
    assert set(questions[0].motions) == {folder.name, "ground truth"}
    build = ["userstudy", "build", "--model", str(folder), "--data", str(tiny_data), "--ground-truth"]
    assert main([*build, "--prompts", "2", "--out", str(tmp_path / "study")]) == 0
    assert folder.name in (tmp_path / "study" / "study.key.json").read_text()


@pytest.mark.parametrize("name", FAMILIES)
def test_push_writes_a_generator_of_any_family(name, folders, tmp_path, capsys):
    folder = Path(shutil.copytree(folders[name], tmp_path / "mine"))
    command = [
        "push",
        str(folder),
        "me/motions",
        "--dry-run",
        "--data-licence",
        "cc-by-nc-4.0",
        "--trained-on",
        "HumanML3D",
    ]
    assert main(command) == 0
    hub = tmp_path / "mine-hub"
    assert str(hub) in capsys.readouterr().out
    card = (hub / "README.md").read_text()
    assert f"family `{name}`" in card
    assert 'from_pretrained("me/motions")' in card
    assert 'license: "cc-by-nc-4.0"' in card
    assert "AMASS" in card
    assert ("a person walks forward | a person turns left" in card) == (name == "mdm")
    again = MotionGenerator.from_pretrained(hub).generate(PROMPTS[:1])[0]
    assert deviation(again, MotionGenerator.from_pretrained(folder).generate(PROMPTS[:1])[0]) < FLOAT32
    assert "not a run" in error_of(capsys, ["push", str(tmp_path), "me/motions", "--dry-run"])


@pytest.fixture
def regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The family of docs/adding-a-family.md, in a folder outside of the package."""
    folder = tmp_path / "more" / "regression"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""A toy family."""\n')
    files = ["config.py", "networks.py", "generator.py", "objective.py", "family.py"]
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in files if f"**`{name}`**" in page] == files
    for name, code in zip(files, blocks("python", page), strict=False):
        (folder / name).write_text(f"from __future__ import annotations\n\n{code}")
    monkeypatch.setattr(generators, "__path__", [*generators.__path__, str(folder.parent)])
    yield folder
    for module in [name for name in sys.modules if name.startswith("adaqf_train.generators.regression")]:
        del sys.modules[module]
    if hasattr(generators, "regression"):
        delattr(generators, "regression")


# The pocket tokeniser of the tests splits captions of procedural motions into more than 77 tokens.
@pytest.mark.filterwarnings("ignore:.*prompts exceed 77 tokens")
def test_a_family_is_one_folder_and_no_edit_elsewhere(regression, base, tiny_train, tmp_path, capsys):
    assert registry.names() == [*FAMILIES, "regression"]
    family, families = registry.family("regression"), families_of("pocket")
    assert families.regression == family.pocket
    config = replace(family.pocket, training=replace(family.pocket.training, steps=3, batch=8, workers=0, drop_at=None))
    to = Fitting(
        Accelerator(cpu=True), tiny_train, base, None, lambda name: Place(tmp_path / f"{name}.jsonl"), None, None
    )
    generator = family.fit(to, config)
    assert len((tmp_path / "generator.jsonl").read_text().splitlines()) >= 1
    folder = generator.save_pretrained(tmp_path / "trained")
    again = MotionGenerator.from_pretrained(folder)
    assert type(again) is family.generator
    expected = generator.generate(PROMPTS, seed=3)
    for a, b in zip(expected, again.generate(PROMPTS, seed=3), strict=True):
        assert deviation(a, b) < FLOAT32
    assert np.abs(again.generate(PROMPTS, guidance=2.0, seed=3)[0] - expected[0]).max() > 1e-6
    out = tmp_path / "motion.npy"
    assert main(["sample", "--model", str(folder), "--prompt", PROMPTS[0], "--seed", "3", "--out", str(out)]) == 0
    np.testing.assert_allclose(np.load(out), expected[0], atol=1e-6)
    assert "regression has no such setting" in error_of(
        capsys, ["sample", "--model", str(folder), "--prompt", "a", "--scheduler", "ddim", "--out", str(out)]
    )


def test_registry_names_the_families_that_there_are():
    assert registry.names() == FAMILIES
    with pytest.raises(ConfigError, match="no family of generators 'gan': choose from latent, masked, mdm"):
        registry.family("gan")


def test_settings_of_published_results_are_those_of_today():
    families = families_of("pocket")
    stored = [
        manifest["families"]
        for path in sorted((CHECKOUT / "results").glob("*.json"))
        if "families" in (manifest := read_json(path).get("manifest", {}))
    ]
    assert len(stored) > 10
    for record in stored:
        assert set(record) == {"latent", "masked", "moclip"}
        assert changes(record, families, "families.") == ""
    other = replace(families, moclip=replace(families.moclip, rank=8))
    assert changes(stored[0], other, "families.") == "families.moclip.rank: 16 -> 8"


def test_encoder_is_saved_beside_and_not_among_the_parameters(base):
    for name in FAMILIES:
        generator = generator_of(name, base)
        own = {id(parameter) for parameter in generator.parameters()}
        assert own.isdisjoint(id(parameter) for parameter in generator.encoder.parameters())
    assert encoder_of(base).base == str(base)
