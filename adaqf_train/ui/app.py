"""A page in the browser to type prompts into: several generators' motions side by side, and files to take away."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaqf_train.errors import ConfigError
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.render.page import Scene, Take, write_page

if TYPE_CHECKING:
    import gradio

PAGE = "motion.html"
HEIGHT = 760  # pixels of the frame that shows the page: two motions side by side with the player below
Save = Callable[..., object]  # (path, joints (T, J, 3) in metres, fps=…, caption=…)


class Studio:
    """What the page's button does: prompts into motions of every model that was chosen, and their files.

    generators: by name. formats: suffix -> what writes a motion into a file of it. folder: where files go, a new folder
    for every call.
    """

    def __init__(self, generators: Mapping[str, MotionGenerator], formats: Mapping[str, Save], folder: Path) -> None:
        if not generators:
            raise ConfigError("No model: name a run with --run, or a generator's folder with --model.")
        self.generators, self.formats, self.folder = generators, formats, folder

    def make(self, prompt: str, seconds: float, seed: float, names: Sequence[str]) -> tuple[str, list[str]]:
        """HTML that plays the motions, and the paths of their files: the page first, then one a model and format.

        The same seed gives every model the same noise. ConfigError for a blank prompt, a seed that is no whole number,
        no or unknown models, and for a length that a model was not trained on.
        """
        if not prompt.strip():
            raise ConfigError("The prompt is blank: say what happens, such as: a person waves twice.")
        if seed is None or seed != int(seed) or seed < 0:
            raise ConfigError(f"The seed must be a whole number from 0, got {seed}.")
        if unknown := [name for name in names if name not in self.generators]:
            raise ConfigError(f"There is no model {unknown[0]!r}; there are {', '.join(self.generators)}.")
        if not names:
            raise ConfigError("Choose at least one model.")
        made = {
            name: self.generators[name].generate([prompt], seconds=seconds, seed=int(seed))[0]
            for name in self.generators
            if name in names
        }
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

    def app(self) -> gradio.Blocks:
        """The page in Gradio; ConfigError says how to install it."""
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
            gradio.Markdown("# A sentence into a motion")
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
    """A page in a frame of its own: its script runs, and can reach nothing outside of it."""
    return (
        f'<iframe title="Motions" sandbox="allow-scripts" srcdoc="{html.escape(page)}" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
