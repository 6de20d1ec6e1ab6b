"""A folder that is a Hugging Face Space of the page: its program, its requirements and its card."""

from __future__ import annotations

from pathlib import Path

from adaclip import __version__
from adaclip.files import atomic_file
from adaclip.packaged import NAME
from adaqf_train.errors import ConfigError

MARK = "# Written by `adaqf ui --space`."
GRADIO = "6.31.0"  # that the page was tried with, if none is installed
APP = f"""{MARK} Run it here with: python app.py
import os
import sys

from adaqf_train.cli import main

names = os.environ.get("SPACE_HOST", "").split(",")  # under which visitors open the Space
allowed = [part for name in names if name for part in ("--allow-host", name)]
sys.exit(main(["ui", "--host", "0.0.0.0", "--no-open", *allowed]))
"""
REQUIREMENTS = f"adaclip[train,ui]=={__version__}\n"
CARD = f"""---
title: AdaQF motions from a sentence
emoji: 🚶
colorFrom: blue
colorTo: indigo
sdk: gradio
sdk_version: "{{gradio}}"
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Human motion from a sentence, on a CPU
tags: [text-to-motion, motion-generation, adaclip]
---

# Motions from a sentence

Type what a person does, and watch the motion. The model is `{NAME}`, which comes with the Python package `adaclip`. It
is small, computes on a CPU, and was trained on procedural motions: it understands the words of their captions, such as
"a person walks forward, then waves twice with the left hand", and no others.

The page with your own models: `pip install 'adaclip[train,ui]'` and `adaqf ui --model FOLDER`.
"""


def write_space(folder: Path) -> list[Path]:
    """Write app.py, requirements.txt and README.md, beside what a clone of the Space holds; return their paths.

    ConfigError if the folder has an app.py of somebody else's, or cannot be written.
    """
    app = folder / "app.py"
    contents = {
        app: APP,
        folder / "requirements.txt": REQUIREMENTS,
        folder / "README.md": CARD.format(gradio=_gradio()),
    }
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--space {folder}: is a file. Name a new folder, or a clone of a Space.")
    if app.exists() and not app.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise ConfigError(f"{app}: is another program. Name a new folder, or a clone of an empty Space.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        with atomic_file(path) as staging:
            staging.write_text(content, encoding="utf-8")
    return list(contents)


def _gradio() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO
