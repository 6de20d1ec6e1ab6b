"""The verbs that make motions to look at and to take away: sample, convert."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from adaqf_train.config import SchedulerName
from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from adaqf_train.files.animation import Animation

Bones = Literal["rigid", "stretch"]  # as in files.animation, whose import would load torch
Content = Literal["joints", "features"]


@dataclass(frozen=True)
class Sample:
    """Generate motions from prompts with a trained generator; needs no data set."""

    model: str  # A generator's folder, such as runs/demo/adaqf, or a repository of the Hugging Face Hub.
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]]  # What happens. Give it several times for several motions.
    out: Path
    """FILE.npy: joints (frames, 22, 3), metres; of several motions (motions, frames, 22, 3). FILE.bvh, FILE.glb: an
    animated skeleton; of several motions FILE_000.bvh, FILE_001.bvh … FILE.html: a page that plays them. FILE.mp4,
    FILE.gif, FILE.png: drawn side by side."""
    seconds: tyro.conf.UseAppendAction[tuple[float, ...]] = ()
    """Length of the motions (default: 4). Repeat it to give one for each prompt."""
    seed: int = 0  # Seed of the motions.
    num_samples: int = 1  # Motions for each prompt.
    guidance: float | None = None  # Weight of the prompt (classifier-free guidance). Default: the model's own.
    steps: int | None = None  # Denoising steps. Default: the model's own.
    scheduler: SchedulerName | None = None  # Sampler of the reverse diffusion. Default: the model's own.
    format: Content = "joints"  # What a .npy file holds. features: HumanML3D's vectors (frames, 263), de-normalised.
    bones: Bones = "rigid"
    """Of .bvh and .glb: rigid keeps the lengths of bones, stretch the positions of joints."""

    def __call__(self) -> None:
        from adaqf_train.files.save import checked_target
        from adaqf_train.generators.base import MotionGenerator
        from adaqf_train.generators.requests import check_count

        checked_target(self.out)
        _check_content(self.format, self.out)
        check_count("--seed", self.seed, 0)
        check_count("--num-samples", self.num_samples, 1)
        if not self.prompt or not all(prompt.strip() for prompt in self.prompt):
            raise ConfigError("--prompt is missing or blank: say what happens, such as 'a person waves twice'.")
        if len(self.seconds) not in (0, 1, len(self.prompt)):
            times = f"{len(self.seconds)} times for {len(self.prompt)} prompts"
            raise ConfigError(f"--seconds is given {times}: give it once for all, or once for each.")
        seconds = list(self.seconds) if len(self.seconds) > 1 else (*self.seconds, 4.0)[0]
        options = {name: getattr(self, name) for name in ("guidance", "steps", "scheduler", "seed")}
        generator = MotionGenerator.from_pretrained(self.model)
        with _plain_warnings():
            motions = generator.generate(
                list(self.prompt), seconds=seconds, num_samples=self.num_samples, output=self.format, **options
            )
        captions = [prompt for prompt in self.prompt for _ in range(self.num_samples)]
        _write(self.out, motions, generator.skeleton.fps, captions, self.format, self.bones)


@dataclass(frozen=True)
class Convert:
    """Convert a motion in a .npy file to BVH, glTF, video, a picture, a page or another array."""

    source: tyro.conf.Positional[Path]
    """A .npy file of joints (frames, 22 or 21, 3), of de-normalised features (frames, 263 or 251), or of a batch."""
    out: tyro.conf.Positional[Path]
    """FILE.npy, .bvh, .glb, .html, .mp4, .gif or .png; several motions are saved as by `sample`."""
    fps: float | None = None  # Frames per second of the motion. Default: 20 for 22 joints, 12.5 for 21.
    caption: str = ""  # Text in pages, pictures and films.
    format: Content = "joints"
    """Content of a .npy file. Features have one frame less than the joints they are computed from."""
    bones: Bones = "rigid"
    """Of .bvh and .glb: rigid keeps the lengths of bones, stretch the positions of joints."""

    def __call__(self) -> None:
        from adaqf_train.files.read import read_features, read_motions
        from adaqf_train.files.save import checked_target

        checked_target(self.out)
        _check_content(self.format, self.out)
        if self.format == "features" and self.fps is not None:
            raise ConfigError(
                "--fps cannot change features: they are computed at 20 frames per second (21 joints: 12.5). Omit it."
            )
        motions = read_features(self.source) if self.format == "features" else read_motions(self.source)
        _write(self.out, motions, self.fps, [self.caption] * len(motions), self.format, self.bones)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings meant for the caller as a line each, without the place in the code that gave them."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        yield


def _check_content(content: Content, out: Path) -> None:
    if content == "features" and out.suffix.lower() != ".npy":
        raise ConfigError(f"--format features: {out} cannot hold features; name a .npy file.")


def _write(out: Path, motions: list, fps: float | None, captions: list[str], content: Content, bones: Bones) -> None:
    from adaqf_train.files.save import save_arrays, save_motions

    def report(path: Path, animation: Animation) -> None:
        away = f"{1000 * animation.error:.1f} mm"
        if animation.stretches:
            print(f"{path}: bones change their length")
            if path.suffix.lower() == ".bvh":
                print(
                    f"warning: {path}: many programs misread or refuse joints with position channels. "
                    "Omit --bones stretch, or write a .glb file.",
                    file=sys.stderr,
                )
        else:
            print(f"{path}: bones keep their length; joints are within {away}")

    if content == "features":
        paths = save_arrays(out, motions)
    else:
        paths = save_motions(out, motions, fps, captions=captions, bones=bones, report=report)
    for path in paths:
        print(f"wrote {path}")
