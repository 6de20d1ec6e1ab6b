"""What `pip install adaclip` and `import adaclip` cost."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import adaclip

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINING = {"accelerate", "diffusers", "rich", "tensorboard", "filelock", "pytest", "onnx"}


def test_importing_leaves_the_slow_libraries_for_later():
    """peft and transformers cost seconds; they are imported when an encoder is first made."""
    slow = {"peft", "transformers", "accelerate", "diffusers", "huggingface_hub"}
    code = f"import sys; from adaclip import AdaCLIP; print(sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_core_package_asks_for_no_training_dependency():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    core = {name.split(">")[0].split("[")[0] for name in project["dependencies"]}
    assert {"torch", "transformers", "peft", "safetensors"} <= core
    assert not core & TRAINING


def test_every_public_name_can_be_imported():
    assert {getattr(adaclip, name) is not None for name in adaclip.__all__} == {True}
    assert set(adaclip.__all__) <= set(dir(adaclip))


def test_every_package_is_installed():
    """A wheel holds what pyproject lists: a folder that is forgotten works from a checkout and nowhere else."""
    listed = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(path.parent.relative_to(CHECKOUT).parts)
        for top in ("adaclip", "adaqf_train")
        for path in (CHECKOUT / top).rglob("__init__.py")
    }
    assert listed == there | {"adaclip_integrations"}
