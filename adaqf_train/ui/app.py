"""A page in the browser that generates motions from prompts with several models, side by side, and their files."""

from __future__ import annotations

import html
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaqf_train.data.layout import LONGEST_CAPTION
from adaqf_train.errors import ConfigError
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.render.page import Scene, Take, write_page

if TYPE_CHECKING:
    import gradio

PAGE = "motion.html"
KEPT = 20  # calls whose files stay while the page is served
HEIGHT = 760  # pixels of the frame that shows the page: two motions side by side above the player
Save = Callable[..., object]  # (path, joints (T, J, 3) in metres, fps=…, caption=…)


class Studio:
    """The page: motions of the chosen models for a prompt, and their files.

    generators: by name. formats: suffix -> function that writes a motion to such a file. folder: where files go, in
    a new folder for every call.
    """

    def __init__(self, generators: Mapping[str, MotionGenerator], formats: Mapping[str, Save], folder: Path) -> None:
        if not generators:
            raise ConfigError("No model: name a run with --run, or a generator's folder with --model.")
        self.generators, self.formats, self.folder = generators, formats, folder

    def make(self, prompt: str, seconds: float, seed: float, names: Sequence[str]) -> tuple[str, list[str]]:
        """Generate motions with the models of these names, which draw from the same seed (the page gives a float).

        Returns HTML that plays the motions, and the paths of their files: the page, then one for each model and format.
        ConfigError names the value that does not hold.
        """
        self._check(prompt, seconds, seed, names)
        if unknown := [name for name in names if name not in self.generators]:
            raise ConfigError(f"There is no model {unknown[0]!r}; there are {', '.join(self.generators)}.")
        if not names:
            raise ConfigError("Choose at least one model.")
        whole = int(seed) if seed is not None and math.isfinite(seed) and seed == int(seed) else seed
        made = {
            name: generator.generate([prompt], seconds=seconds, seed=whole)[0]
            for name, generator in self.generators.items()
            if name in names
        }
        self._prune()
        folder = Path(mkdtemp(dir=self.folder))
        fps = next(iter(self.generators.values())).skeleton.fps
        scene = Scene(prompt, tuple(Take(name, joints) for name, joints in made.items()))
        page = write_page(folder / PAGE, [scene], title="Motions", fps=fps)
        files = [page]
        for name, joints in made.items():
            for suffix, save in self.formats.items():
                files.append(folder / f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_') or 'motion'}{suffix}")
                save(files[-1], joints, fps=fps, caption=prompt)
        return _frame(page.read_text(encoding="utf-8")), [str(path) for path in files]

    def _check(self, prompt: object, seconds: object, seed: object, names: object) -> None:
        """ConfigError for a request that the page does not send."""
        if not isinstance(prompt, str) or len(prompt) > LONGEST_CAPTION:
            raise ConfigError(f"prompt must be a text of at most {LONGEST_CAPTION:,} characters.")
        for name, value in (("seconds", seconds), ("seed", seed)):
            if isinstance(value, bool) or not isinstance(value, int | float | None) or abs(value or 0) > 2**53:
                raise ConfigError(f"{name} must be a whole number or a fraction, got {str(value)[:40]!r}.")
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ConfigError("Choose models by a list of their names.")

    def _prune(self) -> None:
        """Remove the files of all but the latest calls."""
        calls = sorted((path for path in self.folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for path in calls[: max(0, len(calls) - KEPT + 1)]:
            shutil.rmtree(path, ignore_errors=True)

    def app(self) -> gradio.Blocks:
        """The page in Gradio; ConfigError if Gradio is not installed."""
        try:
            import gradio
        except ImportError as error:
            raise ConfigError(f"This needs Gradio ({error}). Install it: pip install 'adaclip[ui]'.") from error

        def answer(prompt: str, seconds: float, seed: float, names: list[str]) -> tuple[str, list[str]]:
            try:
                return self.make(prompt, seconds, seed, names)
            except ValueError as error:
                raise gradio.Error(str(error), print_exception=False) from error

        with gradio.Blocks(title="AdaQF", analytics_enabled=False) as app:
            gradio.Markdown("# Motions from a sentence")
            with gradio.Row():
                prompt = gradio.Textbox(label="Prompt", value="a person waves the right hand twice", scale=4)
                seconds = gradio.Number(label="Seconds", value=4.0, minimum=0, step=0.2)
                seed = gradio.Number(label="Seed", value=0, minimum=0, precision=0)
            names = gradio.CheckboxGroup(list(self.generators), value=list(self.generators), label="Models")
            button = gradio.Button("Generate", variant="primary")
            view = gradio.HTML(label="Motions")
            files = gradio.Files(label="Files")
            for asked in (button.click, prompt.submit):
                asked(answer, [prompt, seconds, seed, names], [view, files], api_name="generate")
        return app


def _frame(page: str) -> str:
    """A page in a frame of its own, whose scripts run but cannot reach anything outside."""
    return (
        f'<iframe title="Motions" sandbox="allow-scripts" srcdoc="{html.escape(page)}" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
