"""The verbs that make motions to look at and to take away: sample, convert."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from adaqf_train.config import SchedulerName
from adaqf_train.errors import AdaQFError, ConfigError, ExportError, FilesError

# As in the modules of files, whose import would load torch.
Bones = Literal["rigid", "stretch"]
Names = Literal["standard", "mixamo", "ue", "unity"]
BodyModel = Literal["smplh", "smplx"]
Content = Literal["joints", "features"]
AnyContent = Literal["joints", "features", "features-272"]


@dataclass(frozen=True, kw_only=True)
class _Output:
    fps: float | None = None
    """Frames per second of the file. Default: those of the motion; for other rates, such as 24, 30 or 60, rotations
    and the path are interpolated."""
    format: Content = "joints"  # What a .npy file holds. features: HumanML3D's vectors (frames, 263), de-normalised.
    bones: Bones = "rigid"  # Of .bvh and .glb: rigid keeps the lengths of bones, stretch the positions of joints.
    names: Names = "standard"
    """Joint names in .bvh and .glb: the skeleton's, or those of Mixamo, Unreal Engine or Unity for retargeting."""
    lock_feet: bool = False  # Hold feet that touch the floor in place, by inverse kinematics of the legs.
    body: BodyModel = "smplh"  # Model of .npz: smplh (also for SMPL) or smplx.

    def write(self, out: Path, motions: list, captions: list[str], source_fps: list[float]) -> None:
        """Save joints or features as the options ask, and print what was done."""
        from adaqf_train.files.save import save_arrays, save_motions

        if self.format != "joints":
            paths = save_arrays(out, motions)
        else:
            options = {name: getattr(self, name) for name in ("fps", "bones", "names", "lock_feet", "body")}
            with _plain_warnings():
                paths = save_motions(out, motions, captions=captions, source_fps=source_fps, report=print, **options)
        for path in paths:
            print(f"wrote {path}")

    def check(self, out: Path) -> None:
        """Refuse what cannot be written before anything is computed."""
        from adaqf_train.files.save import check_options, checked_target

        check_options(checked_target(out), self.bones, self.names, self.body)
        if self.format == "joints":
            return
        if out.suffix.lower() != ".npy":
            raise ConfigError(f"--format {self.format}: {out} cannot hold features; name a .npy file.")
        if self.fps is not None:
            raise ConfigError(
                "--fps cannot change features: they have 20 frames per second (251: 12.5, 272: 30). Omit it."
            )
        if self.lock_feet:
            raise ConfigError("--lock-feet changes joints, not features. Convert to joints first.")


@dataclass(frozen=True, kw_only=True)
class Sample(_Output):
    """Generate motions from prompts with a trained generator; needs no data set."""

    prompts: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPTS")] = ()
    """What happens, such as "a person waves twice with the left hand"; a motion for each."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # Further prompts; --prompt TEXT, repeated, as one option.
    model: str | None = None
    """A generator's folder, such as runs/demo/adaqf, or a repository of the Hugging Face Hub. Default: adaclip-pocket,
    which comes with this package and was trained on procedural motions."""
    out: Path
    """FILE.npy: joints (frames, 22, 3), metres; of several motions (motions, frames, 22, 3). FILE.bvh, FILE.glb: an
    animated skeleton; of several motions FILE_000.bvh, FILE_001.bvh … FILE.npz: SMPL's pose parameters, as in AMASS.
    FILE.html: a page that plays them. FILE.mp4, FILE.gif, FILE.png: drawn side by side."""
    seconds: tyro.conf.UseAppendAction[tuple[float, ...]] = ()
    """Length of the motions (default: 4). Repeat it to give one for each prompt."""
    seed: int = 0  # Seed of the motions.
    num_samples: int = 1  # Motions for each prompt.
    guidance: float | None = None  # Weight of the prompt (classifier-free guidance). Default: the model's own.
    steps: int | None = None  # Denoising steps. Default: the model's own.
    scheduler: SchedulerName | None = None  # Sampler of the reverse diffusion. Default: the model's own.

    def __call__(self) -> None:
        from adaclip.packaged import NAME
        from adaqf_train.generators.base import MotionGenerator
        from adaqf_train.generators.folder import GENERATOR
        from adaqf_train.generators.requests import check_count

        self.check(self.out)
        check_count("--seed", self.seed, 0)
        check_count("--num-samples", self.num_samples, 1)
        prompts = [*self.prompts, *self.prompt]
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise ConfigError("The prompt is missing or blank: say what happens, such as 'a person waves twice'.")
        if len(self.seconds) not in (0, 1, len(prompts)):
            times = f"{len(self.seconds)} times for {len(prompts)} prompts"
            raise ConfigError(f"--seconds is given {times}: give it once for all, or once for each.")
        seconds = list(self.seconds) if len(self.seconds) > 1 else (*self.seconds, 4.0)[0]
        options = {name: getattr(self, name) for name in ("guidance", "steps", "scheduler", "seed")}
        with _plain_warnings():
            generator = MotionGenerator.from_pretrained(self.model or GENERATOR)
            motions = generator.generate(
                prompts, seconds=seconds, num_samples=self.num_samples, output=self.format, **options
            )
        if self.model is None:
            print(f"model {NAME}: trained on procedural motions; it reads the words of their captions")
        captions = [prompt for prompt in prompts for _ in range(self.num_samples)]
        self.write(self.out, motions, captions, [generator.skeleton.fps] * len(motions))


@dataclass(frozen=True, kw_only=True)
class Convert(_Output):
    """Convert motions to BVH, glTF, SMPL's parameters, video, pictures, a page or an array.

    Frame rates are kept: a BVH file states its own, features are computed at 20 frames per second (21 joints: 12.5),
    and joints are taken to have that rate unless --source-fps states another.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A .npy file of joints or features, one clip or a batch; MDM's results.npy; a .bvh file; AMASS's .npz; or a
    folder of them."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """FILE.npy, .bvh, .glb, .npz, .html, .mp4, .gif or .png; several motions are saved as by `sample`."""
    caption: str = ""  # Text in pages, pictures and films. Default: the source's own.
    source_fps: float | None = None  # Frames per second of the source, if it states none or a wrong rate.
    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None  # Axis that points up in the source. Default: y.
    skip: int | None = None
    """Frames to leave out at the start, such as a rest pose. Default: 0, with a warning of rest poses."""
    format: AnyContent = "joints"
    """What a .npy file holds. features: HumanML3D's vectors (frames, 263), de-normalised; features-272: those of
    MotionStreamer (frames, 272) at 30 frames per second."""
    joint_map: Annotated[str | None, tyro.conf.arg(name="map")] = None
    """For BVH: a preset's name or a JSON file, as in `prepare bvh`. Default: the preset that fits the joint names."""

    def __call__(self) -> None:
        from adaqf_train.files.read import features_of, read_clips, streaming_of

        self.check(self.out)
        if self.source_fps is not None and not 0 < self.source_fps < float("inf"):
            raise ConfigError(f"--source-fps must be a positive number, got {self.source_fps}. Give one such as 30.")
        if self.skip is not None and self.skip < 0:
            raise ConfigError(f"--skip must be at least 0, got {self.skip}. Give the number of frames to leave out.")
        if self.joint_map is not None and self.source.is_file() and self.source.suffix.lower() != ".bvh":
            raise ConfigError(f"--map has no effect on {self.source}: it maps the joints of .bvh files. Omit it.")
        try:
            clips = read_clips(self.source, fps=self.source_fps, up=self.up, skip=self.skip, joint_map=self.joint_map)
        except FilesError as error:
            raise FilesError([_with_option(line) for line in error.lines]) from error
        except AdaQFError as error:
            raise ExportError(_with_option(str(error))) from error
        for clip in clips:
            for note in clip.notes:
                print(f"warning: {clip.where}: {_with_option(note)}", file=sys.stderr)
        rates = [clip.fps or clip.skeleton.fps for clip in clips]
        shown = ", ".join(f"{rate:g}" for rate in sorted(set(rates)))
        how = "" if all(clip.fps for clip in clips) else ", the standard rate (--source-fps states another)"
        print(f"source: {len(clips)} motion{'s' * (len(clips) != 1)} at {shown} frames per second{how}")
        contents = {"features": features_of, "features-272": streaming_of, "joints": lambda clip: clip.joints}
        motions = [contents[self.format](clip) for clip in clips]
        captions = [self.caption or clip.caption for clip in clips]
        self.write(self.out, motions, captions, rates)


def _with_option(message: str) -> str:
    """A message about the rate of a source, with the option that states it here."""
    return re.sub(r"(?<!\S)--fps\b", "--source-fps", message)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings meant for the caller as a line each, without the place in the code that gave them."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        yield
