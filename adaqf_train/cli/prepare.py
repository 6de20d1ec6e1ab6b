"""The verb that makes data sets: prepare; each class is one kind of source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from adaqf_train.cli.options import labelled

Up = Literal["x", "y", "z", "-x", "-y", "-z"]  # as in motion.orientation, whose import would load torch
WINDOW = 196  # as in data.prepare, whose import would load torch


@dataclass(frozen=True, kw_only=True)
class _Source:
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Folder of the source files; train.txt, val.txt and test.txt in it define the splits."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the data set to write; must not exist yet."""
    mirror: bool = False  # Add a mirrored copy of every training clip, with left and right swapped in its captions.


@dataclass(frozen=True, kw_only=True)
class _Recordings(_Source):
    captions: Path | None = None
    """JSON {name: [captions]} or CSV with the columns name and caption; None: NAME.txt beside each file."""
    window: int = WINDOW
    """Longer clips are cut evenly into windows of at most this many frames, at 20 frames per second."""


@dataclass(frozen=True, kw_only=True)
class PrepareJoints(_Source):
    """Convert joint positions with captions to HumanML3D's layout, on the standard skeleton.

    The source has NAME.npy joints (frames, joints, 3) of 21, 22, 24, 52 or 55 joints, with NAME.txt captions, or is a
    pack of .npz splits.
    """

    fps: float | None = None
    """Frame rate of the source; None: the pack's, or that of the skeleton (22 joints: 20, 21 joints: 12.5)."""
    up: Up | None = None  # Axis that points up; None: y, and bodies that lie or stand on their heads are refused.
    skip: int | None = None
    """Frames to skip at the start of each clip; None: 0, and clips that start with a rest pose are refused."""

    def __call__(self) -> None:
        from adaqf_train.data.prepare.joints import prepare_joints

        _wrote(self.folder, prepare_joints(**vars(self)))


@dataclass(frozen=True, kw_only=True)
class PrepareBvh(_Recordings):
    """Convert BVH files of any skeleton with captions to HumanML3D's layout, on the standard skeleton.

    The source has NAME.bvh files, at any depth.
    """

    joint_map: Annotated[str | None, tyro.conf.arg(name="map")] = None
    """humanml3d, smpl, mixamo, lafan1, bandai-namco, cmu, cmu-daz, cmu-asf, xsens, perception-neuron, axis-studio,
    soma, snapmogen, biped, ue, unity, rokoko, or your own JSON file; None: the map that fits the joint names."""
    fps: float | None = None  # Frame rate of the files; None: the rate in each file.
    up: Up | None = None  # Axis that points up; None: y, and files in which the body lies are refused.
    skip: int | None = None
    """Frames to skip at the start of each file, such as 1 for CMU's rest pose; None: 0, and files that start
    with a rest pose are refused. A file options.json in a folder, or columns in the captions table, give map, skip, up
    and fps for single files."""

    def __call__(self) -> None:
        from adaqf_train.data.prepare.bvh import prepare_bvh

        summary = prepare_bvh(**vars(self))
        _wrote(self.folder, summary.clips, summary.lines())


@dataclass(frozen=True, kw_only=True)
class PrepareAmass(_Recordings):
    """Convert AMASS's files (SMPL-H or SMPL-X) with captions to HumanML3D's layout.

    Needs `pip install smplx` and body models.
    The source has .npz files, at any depth; the path of a file inside it is the name of the clip.
    """

    body_models: Path  # Folder of the body models: SMPLH_MALE.npz or .pkl, SMPLX_MALE.npz and so on.

    def __call__(self) -> None:
        from adaqf_train.data.prepare.amass import prepare_amass

        summary = prepare_amass(**vars(self))
        _wrote(self.folder, summary.clips, summary.lines())


@dataclass(frozen=True, kw_only=True)
class PrepareFree:
    """Make the part of HumanML3D that comes from the CMU database from BVH files, without AMASS.

    The source has BVH files of CMU's takes, such as 02_01.bvh, at any depth.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]  # Folder of the BVH files.
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the data set to write; must not exist yet."""
    index: Path  # HumanML3D's index.csv.
    texts: Path  # HumanML3D's texts/, unzipped.
    splits: Path | None = None  # Folder of HumanML3D's train.txt, val.txt and test.txt; None: that of index.csv.
    fps: float | None = None  # Frame rate of the takes; None: the rate in each file.
    mirror: bool = False  # Add the mirrored clips M..., as HumanML3D has them.

    def __call__(self) -> None:
        from adaqf_train.data.prepare.humanml3d_free import prepare_humanml3d_free

        summary = prepare_humanml3d_free(**vars(self))
        _wrote(self.folder, summary.clips, summary.lines())


@dataclass(frozen=True)
class PrepareProcedural:
    """Generate procedural motions with captions: the demo's data set, in any size."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the data set to write; must not exist yet."""
    clips: int = 3000  # Clips in all three splits.
    seed: int = 0  # Seed of motions and captions.
    skeleton: Literal["humanml3d", "kit"] = "humanml3d"
    """kit: 21 joints at 12.5 frames per second, as in KIT-ML, for the recipe kit."""

    def __call__(self) -> None:
        from adaqf_train.data.prepare.procedural import prepare_procedural
        from adaqf_train.motion.skeleton import HUMANML3D, KIT

        skeleton = KIT if self.skeleton == "kit" else HUMANML3D
        _wrote(self.folder, prepare_procedural(**vars(self) | {"skeleton": skeleton}))


@dataclass(frozen=True)
class PrepareMerged:
    """Merge data sets in HumanML3D's layout: features are copied, statistics are computed over all."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the data set to write; must not exist yet."""
    sources: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="LABEL=FOLDER")]
    """LABEL=FOLDER of each data set; its clips become LABEL_NAME."""

    def __call__(self) -> None:
        from adaqf_train.data.prepare.merge import prepare_merged

        sources = labelled("SOURCES", self.sources, "bandai-namco=data/bn")
        _wrote(self.folder, prepare_merged(sources, self.folder))


@dataclass(frozen=True)
class Prepare:
    """Convert motions to HumanML3D's layout."""

    kind: Annotated[
        Annotated[PrepareJoints, tyro.conf.subcommand("joints", prefix_name=False)]
        | Annotated[PrepareBvh, tyro.conf.subcommand("bvh", prefix_name=False)]
        | Annotated[PrepareAmass, tyro.conf.subcommand("amass", prefix_name=False)]
        | Annotated[PrepareFree, tyro.conf.subcommand("humanml3d-free", prefix_name=False)]
        | Annotated[PrepareMerged, tyro.conf.subcommand("merged", prefix_name=False)]
        | Annotated[PrepareProcedural, tyro.conf.subcommand("synthetic", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.kind()


def _wrote(folder: Path, counts: Mapping[str, int], left_out: Iterable[str] = ()) -> None:
    for line in left_out:
        print(line)
    print(f"wrote {folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
