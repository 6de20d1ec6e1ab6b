"""The kinds of `adaqf prepare`; each class is one and its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from adaqf_train.data.prepare import (
    WINDOW,
    prepare_amass,
    prepare_bvh,
    prepare_joints,
    prepare_merged,
    prepare_procedural,
)
from adaqf_train.errors import ConfigError
from adaqf_train.motion.skeleton import HUMANML3D, KIT


@dataclass(frozen=True)
class PrepareJoints:
    """Joint positions with captions into HumanML3D's layout, on the standard skeleton."""

    source: tyro.conf.Positional[Path]
    """A folder of NAME.npy joints (frames, 22 | 21, 3), Y up, with NAME.txt captions, or a pack of .npz splits."""
    folder: tyro.conf.Positional[Path]
    """Where the data set goes; must not exist yet."""
    fps: float | None = None
    """Frame rate of the source; none: what a pack says, or the skeleton's own (22 joints: 20, 21 joints: 12.5)."""
    mirror: bool = False
    """Add a mirrored copy of every training clip, left and right swapped in its captions."""

    def __call__(self) -> None:
        _wrote(self.folder, prepare_joints(self.source, self.folder, fps=self.fps, mirror=self.mirror))


@dataclass(frozen=True)
class PrepareBvh:
    """BVH files of any skeleton with captions into HumanML3D's layout, on the standard skeleton."""

    source: tyro.conf.Positional[Path]
    """A folder of NAME.bvh files, at any depth; train.txt, val.txt and test.txt beside them may give the splits."""
    folder: tyro.conf.Positional[Path]
    """Where the data set goes; must not exist yet."""
    captions: Path | None = None
    """JSON {name: [captions]} or CSV with the columns name and caption; none: NAME.txt beside each file."""
    joint_map: Annotated[str | None, tyro.conf.arg(name="map")] = None
    """humanml3d, cmu, mixamo, lafan1, bandai-namco, or your own JSON file; none: the preset that fits the names."""
    fps: float | None = None
    """Frame rate of the files; none: what each says."""
    up: Literal["y", "z"] | None = None
    """Axis that points up; none: y, and files that look as if it were z are refused."""
    skip: int | None = None
    """Frames to leave out at each file's start: 1 for CMU's rest pose; none: 0, and files that begin so are refused."""
    window: int = WINDOW
    """Longer clips are cut evenly into windows of at most that many frames, 20 a second."""
    mirror: bool = False
    """Add a mirrored copy of every training clip, left and right swapped in its captions."""

    def __call__(self) -> None:
        summary = prepare_bvh(
            self.source,
            self.folder,
            captions=self.captions,
            joint_map=self.joint_map,
            fps=self.fps,
            up=self.up,
            skip=self.skip,
            window=self.window,
            mirror=self.mirror,
        )
        _wrote(self.folder, summary.clips, summary.lines())


@dataclass(frozen=True)
class PrepareAmass:
    """AMASS's SMPL-H files with captions into HumanML3D's layout; needs `pip install smplx` and the body models."""

    source: tyro.conf.Positional[Path]
    """A folder of .npz files, at any depth; a clip's name is its path in there."""
    folder: tyro.conf.Positional[Path]
    """Where the data set goes; must not exist yet."""
    body_models: Path
    """Folder of the SMPL-H models, SMPLH_MALE.npz or .pkl and so on."""
    captions: Path | None = None
    """JSON {name: [captions]} or CSV with the columns name and caption; none: a .txt beside each file."""
    window: int = WINDOW
    """Longer clips are cut evenly into windows of at most that many frames, 20 a second."""
    mirror: bool = False
    """Add a mirrored copy of every training clip, left and right swapped in its captions."""

    def __call__(self) -> None:
        summary = prepare_amass(
            self.source,
            self.folder,
            body_models=self.body_models,
            captions=self.captions,
            window=self.window,
            mirror=self.mirror,
        )
        _wrote(self.folder, summary.clips, summary.lines())


@dataclass(frozen=True)
class PrepareSynthetic:
    """Procedural motions with captions: the demo's data set, in any number."""

    folder: tyro.conf.Positional[Path]
    """Where the data set goes; must not exist yet."""
    clips: int = 3000
    seed: int = 0
    skeleton: Literal["humanml3d", "kit"] = "humanml3d"
    """kit: 21 joints at 12.5 frames a second, as KIT-ML's are, for the recipe kit."""

    def __call__(self) -> None:
        skeleton = KIT if self.skeleton == "kit" else HUMANML3D
        _wrote(self.folder, prepare_procedural(self.folder, clips=self.clips, seed=self.seed, skeleton=skeleton))


@dataclass(frozen=True)
class PrepareMerged:
    """Several data sets in HumanML3D's layout into one, features as they are, statistics over all."""

    folder: tyro.conf.Positional[Path]
    """Where the data set goes; must not exist yet."""
    sources: tyro.conf.Positional[tuple[str, ...]]
    """LABEL=FOLDER for each; clips are named LABEL_NAME."""

    def __call__(self) -> None:
        pairs = [source.partition("=") for source in self.sources]
        for label, equals, folder in pairs:
            if not (label and equals and folder):
                raise ConfigError(f"{label}: expected LABEL=FOLDER, such as bandai-namco=data/bn.")
        labels = [label for label, _, _ in pairs]
        if len(set(labels)) < len(labels):
            raise ConfigError(f"Two sources have one label ({', '.join(labels)}). Give each its own.")
        _wrote(self.folder, prepare_merged({label: Path(folder) for label, _, folder in pairs}, self.folder))


@dataclass(frozen=True)
class Prepare:
    """Motions into HumanML3D's layout."""

    kind: Annotated[
        Annotated[PrepareJoints, tyro.conf.subcommand("joints", prefix_name=False)]
        | Annotated[PrepareBvh, tyro.conf.subcommand("bvh", prefix_name=False)]
        | Annotated[PrepareAmass, tyro.conf.subcommand("amass", prefix_name=False)]
        | Annotated[PrepareMerged, tyro.conf.subcommand("merged", prefix_name=False)]
        | Annotated[PrepareSynthetic, tyro.conf.subcommand("synthetic", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.kind()


def _wrote(folder: Path, counts: Mapping[str, int], left_out: Iterable[str] = ()) -> None:
    for line in left_out:
        print(line)
    print(f"wrote {folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
