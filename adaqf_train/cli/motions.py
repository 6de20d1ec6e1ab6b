"""The verbs that make motions to look at: sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from adaqf_train.config import ConfigError


@dataclass(frozen=True)
class Sample:
    """Motions from prompts with a trained generator; needs no data set."""

    model: Path
    """A generator's folder, such as runs/demo/adaqf."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]]
    """What happens. Repeatable: one motion each."""
    out: Path
    """FILE.npy: joints (prompts, frames, 22, 3), metres. FILE.html: a page that plays them."""
    seconds: float = 4.0
    seed: int = 0

    def __call__(self) -> None:
        import numpy as np

        from adaclip.files import atomic_file
        from adaqf_train.models.generator import MotionGenerator
        from adaqf_train.viewing.page import Scene, Take, write_page

        if self.out.suffix not in (".npy", ".html"):
            raise ConfigError(f"--out {self.out}: cannot write {self.out.suffix or 'that'}; name a .npy or .html file.")
        if not self.prompt:
            raise ConfigError("--prompt is missing: say what happens, such as --prompt 'a person waves twice'.")
        if self.seed < 0:
            raise ConfigError(f"--seed must not be negative, got {self.seed}.")
        generator = MotionGenerator.from_pretrained(self.model)
        motions = generator.generate(self.prompt, seconds=self.seconds, seed=self.seed)
        if self.out.suffix == ".html":
            scenes = [Scene(p, (Take(self.model.name, m),)) for p, m in zip(self.prompt, motions, strict=True)]
            write_page(self.out, scenes, title="Motions", fps=generator.skeleton.fps)
        else:
            with atomic_file(self.out) as staging, staging.open("wb") as file:
                np.save(file, np.stack(motions).astype(np.float32))
        print(f"wrote {self.out}")
