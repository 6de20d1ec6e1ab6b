"""Scores of anyone's motions, without a run: physics always; more with reference motions, captions and an evaluator."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from tqdm import tqdm

from adaclip.files import atomic_file, write_json
from adaclip.packaged import NAME
from adaqf_train.config import MIN_SAMPLES
from adaqf_train.data.prepare.procedural_sets import origin_of
from adaqf_train.errors import DataError
from adaqf_train.evaluation import columns, metrics
from adaqf_train.evaluation.columns import FLOOR, LEARNED, NAMES, PHYSICAL
from adaqf_train.evaluation.embedder import Embedder
from adaqf_train.evaluation.floor import disjoint_halves
from adaqf_train.evaluation.foreign import Motions, Reading, gather
from adaqf_train.evaluation.protocol import Row, interval, replicated
from adaqf_train.evaluation.report import on_screen
from adaqf_train.evaluation.scores import JOINTS, distances_to
from adaqf_train.judges import store
from adaqf_train.judges.base import Evaluator
from adaqf_train.motion import physics
from adaqf_train.motion.features import encode

REFERENCE = "reference"
UNIT = 4  # frames; evaluators halve the rate twice
POOL, PAIRS = 32, 300  # of R-precision and diversity
PROCEDURAL = (
    f"The evaluator is the packaged one ({NAME}), trained on procedural motions: its figures of other motions mean "
    "nothing."
)
FEW = 4  # samples for each dimension of an embedding, below which FID's lower bound is high


@dataclass(frozen=True)
class MotionsReport:
    """Figures of sets of motions.

    Attributes:
        rows: {set: {figure: {"mean", "ci95"}}}. Intervals of physics are over clips, others over random pools, pairs
            and halves; None where there is only one value.
        notes: What a reader must know to interpret the figures.
        manifest: What they were obtained from.
    """

    rows: dict[str, Row]
    notes: tuple[str, ...]
    manifest: dict[str, object]

    def tables(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Yield (title, formatted rows) of each table."""
        tables = {
            "By the evaluator": (LEARNED, ""),
            "By the second evaluator, which reads decoded joints": (LEARNED, JOINTS),
            "Physics, measured on the joints": (PHYSICAL, ""),
        }
        for title, (wanted, prefix) in tables.items():
            own = {n: row for n, row in self.rows.items() if any(prefix + figure in row for figure in wanted)}
            yield title, columns.table(own, wanted, prefix) if own else []

    def markdown(self) -> str:
        """The report as Markdown."""
        return "\n".join(["# Report", "", *columns.sections(self.tables()), *(f"* {n}" for n in self.notes), ""])

    def show(self, console: Console) -> None:
        """Print the tables and notes."""
        for title, rows in self.tables():
            if rows:
                console.print(on_screen(title, rows))
        for note in self.notes:
            console.print(note, style="dim", markup=False, soft_wrap=True)

    def save(self, folder: Path) -> None:
        """Write report.json and report.md."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "report.json", {"rows": self.rows, "notes": list(self.notes), **self.manifest})
        with atomic_file(folder / "report.md") as staging:
            staging.write_text(self.markdown(), encoding="utf-8")


def evaluate_motions(
    paths: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    captions: str | Path | None = None,
    evaluator: Evaluator | str | Path | None = None,
    reading: Reading | None = None,
    replications: int = 20,
    seed: int = 0,
) -> MotionsReport:
    """Scores the motions of any model or data set, as joints or features.

    Args:
        paths: Files or folders, a row each: NAME.npy or NAME.npz files at any depth, MDM's results.npy, BVH files, a
            pack, or a data set (`evaluation.stored`).
        reference: Real motions to compare with, in any of these forms.
        captions: JSON {name: caption}, CSV (name, caption) or TXT (a line each); None: those that the motions have.
        evaluator: An evaluator, its folder, or the folder of a run, whose second evaluator scores as well; for FID
            (with `reference`) and R-precision (with captions). None: for procedural data sets, the packaged evaluator
            ("adaclip-pocket"), which was trained on such data; for other motions, none.
        reading: How joints are to be read; features state it themselves.
        replications: Random orders into pools, pairs and halves.
        seed: Of those.

    Returns:
        Rows of the sets, of the reference, and of two disjoint halves of it.

    Raises:
        DataError: Motions or captions that cannot be used; the message is one line and names them.
        ConfigError: An option does not hold.
        ArtefactError: The evaluator's folder is incomplete or damaged.
    """
    reading = reading or Reading()
    several = [paths] if isinstance(paths, str | Path) else paths
    if evaluator is None and all(map(_is_procedural, (*several, *([] if reference is None else [reference])))):
        evaluator = NAME
    judge, fingerprint = load_evaluator(evaluator) if evaluator is not None else (None, None)
    second = _second(evaluator)
    sets = _named([gather(Path(path), captions and Path(captions), reading) for path in several])
    real = gather(Path(reference), None, reading) if reference is not None else None
    _check(sets, real, judge)
    notes = [PROCEDURAL] * (evaluator is not None and str(evaluator) == NAME)
    notes += [f"{name}: {note}." for name, own in sets.items() for note in own.notes]
    notes += [f"{REFERENCE}: {note}." for note in (real.notes if real else ())]
    rows: dict[str, Row] = {}
    if real is not None:
        rows[REFERENCE], rows[FLOOR] = _physics(real, None), {}
    for name, own in sets.items():
        rows[name] = _physics(own, real)
    for prefix, each in (("", judge), (JOINTS, second)):
        if each is not None:
            for name, figures in _learned(sets, real, each, replications, seed).items():
                rows[name] |= {prefix * (metric not in PHYSICAL) + metric: v for metric, v in figures.items()}
    rows = {name: row for name, row in rows.items() if row}
    return MotionsReport(
        rows, (*_explained(sets, real, judge, rows), *notes), _manifest(several, sets, real, fingerprint, reading)
    )


def load_evaluator(evaluator: Evaluator | str | Path) -> tuple[Evaluator, str | None]:
    """Load an evaluator from its folder, or from that of a run; return it with its fingerprint, None for an object."""
    if isinstance(evaluator, Evaluator):
        return evaluator, None
    folder = store.located(evaluator)
    folder = folder / "evaluator" if (folder / "evaluator").is_dir() else folder
    fingerprint = store.fingerprint_of(folder)
    towers, tokenizer, statistics = store.load_evaluator(folder)
    return Evaluator(towers, tokenizer, *statistics), fingerprint


def _second(evaluator: Evaluator | str | Path | None) -> Evaluator | None:
    """The second evaluator of a run, which reads decoded joints; None if there is none."""
    if evaluator is None or isinstance(evaluator, Evaluator):
        return None
    folder = store.located(evaluator) / "joint_evaluator"
    return load_evaluator(folder)[0] if folder.is_dir() else None


def _is_procedural(path: str | Path) -> bool:
    """Whether a path is a procedural data set of the body that the packaged evaluator reads."""
    try:
        return "skeleton" not in origin_of(Path(path))
    except DataError:
        return False


def _named(found: Sequence[Motions]) -> dict[str, Motions]:
    """Sets by name; equal names, and those of our own rows, get a number."""
    named: dict[str, Motions] = {}
    for motions in found:
        name, number = motions.name, 2
        while name in named or name in (REFERENCE, *NAMES):
            name, number = f"{motions.name} ({number})", number + 1
        named[name] = motions
    return named


def _check(sets: Mapping[str, Motions], real: Motions | None, judge: Evaluator | None) -> None:
    every = [*sets.items(), *([(REFERENCE, real)] if real else [])]
    for name, motions in every:
        if motions.skeleton is not every[0][1].skeleton:
            raise DataError(
                f"{name}: {len(motions.skeleton)} joints, but {every[0][0]} has {len(every[0][1].skeleton)}. Score "
                "each skeleton by itself."
            )
        if judge is not None and len(judge.mean) != motions.skeleton.features:
            raise DataError(
                f"{name}: {motions.skeleton.features} features a frame, but the evaluator reads {len(judge.mean)}. "
                "Give an evaluator that was trained on such data."
            )
        if judge is not None and len(motions) < MIN_SAMPLES:
            raise DataError(
                f"{name}: {len(motions)} motions; FID and R-precision need at least {MIN_SAMPLES}. Add some, or score "
                "the physics alone, without an evaluator."
            )
    if judge is not None and real is None and not any(all(own.captions) for own in sets.values()):
        raise DataError(
            "The evaluator has nothing to compare with: give real motions with --reference, or captions of all motions "
            "with --captions."
        )


def _physics(motions: Motions, real: Motions | None) -> Row:
    """Figures of the clips, with 95 % intervals over them; accelerations against the reference's."""
    body = motions.skeleton
    clips = tqdm(motions.joints, desc=f"Physics of {motions.name}", unit="clip", leave=False)
    found = [{name: measure(clip, body) for name, measure in physics.MEASURES.items()} for clip in clips]
    row: Row = {name: interval([figures[name] for figures in found]) for name in physics.MEASURES}
    if len(found) == 1:
        row = {name: {"mean": figure["mean"], "ci95": None} for name, figure in row.items()}
    if real is None:
        values = physics.mean_magnitudes(motions.joints, body)
    else:
        values = physics.acceleration_distance(real.joints, motions.joints, body)
    return row | {name: {"mean": value, "ci95": None} for name, value in values.items()}


def _learned(
    sets: Mapping[str, Motions], real: Motions | None, judge: Embedder, replications: int, seed: int
) -> dict[str, Row]:
    """Figures of an evaluator: distances to the reference, R-precision where all captions are known, diversity."""
    every = {**({REFERENCE: real} if real else {}), **sets}
    embedded = {name: judge.embed_motions(_features(name, motions)) for name, motions in every.items()}
    texts = {n: judge.embed_texts(own.captions) for n, own in every.items() if all(own.captions)}

    def figures(name: str, replication: int) -> dict[str, float]:
        motion, rng = embedded[name], np.random.default_rng([seed, replication])
        row = {"diversity": metrics.diversity(motion, min(PAIRS, len(motion) // 2), rng)}
        if real is not None and name != REFERENCE:
            row |= distances_to(embedded[REFERENCE], motion, (seed, replication))
        if name in texts:
            order, pool = rng.permutation(len(motion)), min(POOL, len(motion))
            found = metrics.r_precision(texts[name][order], motion[order], pool)
            row |= {f"r_precision_{k}": float(value) for k, value in enumerate(found, start=1)}
            row["mm_dist"] = metrics.mm_dist(texts[name], motion)
        return row

    orders = [np.random.default_rng([seed, replication]) for replication in range(replications)]
    split = [disjoint_halves(real.names, rng) for rng in orders] if real is not None else []

    def halves(replication: int) -> dict[str, float]:
        first, second = split[replication]
        distances = physics.acceleration_distance(
            [real.joints[i] for i in first], [real.joints[i] for i in second], real.skeleton
        )
        return distances | distances_to(embedded[REFERENCE][first], embedded[REFERENCE][second], (seed, replication))

    rows = {name: replicated(lambda number, n=name: figures(n, number), replications) for name in every}
    if split and all(len(first) >= metrics.FEWEST_ROWS for first, _ in split):
        rows[FLOOR] = replicated(halves, replications)
    return rows


def _features(name: str, motions: Motions) -> list[np.ndarray]:
    """De-normalised features of the clips, cut to whole units."""
    found = []
    clips = zip(motions.names, motions.joints, motions.features, strict=True)
    for clip, joints, given in tqdm(
        clips, total=len(motions), desc=f"Features of {motions.name}", unit="clip", leave=False
    ):
        vectors = (encode(joints) if given is None else given).astype(np.float32)
        if len(vectors) < UNIT or not np.isfinite(vectors).all():
            what = "not finite as features" if len(vectors) >= UNIT else f"{len(vectors)} frames of features"
            raise DataError(f"{name}, {clip}: {what}; the evaluator needs at least {UNIT}, all finite. Remove it.")
        found.append(vectors[: len(vectors) // UNIT * UNIT])
    return found


def _explained(
    sets: Mapping[str, Motions], real: Motions | None, judge: Evaluator | None, rows: Mapping[str, Row]
) -> Iterator[str]:
    """Notes on what was scored."""
    counts = ", ".join(f"{name} {len(own):,}" for name, own in sets.items())
    body = next(iter(sets.values())).skeleton
    yield (
        f"Motions: {counts}{f', reference {len(real):,}' if real else ''}; {len(body)} joints, at {body.fps:g} frames "
        "per second. Intervals of physics are over clips. docs/evaluation.md has the formula of each figure."
    )
    if real is None:
        yield "No reference: accelerations and jerks are means, not distances, and there is no FID. Give --reference."
    if judge is None:
        yield (
            f"No evaluator: no FID and no R-precision. Give --evaluator; {NAME}, which comes with this package, is for "
            "motions like the procedural ones."
        )
        return
    for name, own in sets.items():
        missing = sum(not caption for caption in own.captions)
        if missing:
            yield f"{name}: {missing:,} of {len(own):,} motions have no caption: no R-precision. Give --captions."
    if real is not None and FLOOR not in rows:
        yield (
            f"No row of disjoint halves: the {len(real):,} motions of the reference are parts (NAME#…) or mirrored "
            "copies (MNAME) of too few clips."
        )
    fewest = min(len(own) for own in (*sets.values(), *([real] if real else [])))
    if real is not None and fewest < FEW * judge.width:
        yield (
            f"The evaluator's embeddings are {judge.width} wide, more than a quarter of {fewest} motions: FID's lower "
            "bound is high. Compare FID∞ and KID, and the row of disjoint halves."
        )


def _manifest(
    paths: Sequence[str | Path],
    sets: Mapping[str, Motions],
    real: Motions | None,
    fingerprint: str | None,
    reading: Reading,
) -> dict[str, object]:
    every = {**sets, **({REFERENCE: real} if real else {})}
    return {
        "protocol": "motions",
        "motions": {
            name: {"path": str(path), "count": len(own)} for path, (name, own) in zip(paths, sets.items(), strict=True)
        },
        "frames": {name: sum(map(len, own.joints)) for name, own in every.items()},
        "skeleton": next(iter(sets.values())).skeleton.name,
        "evaluator": fingerprint,
        "reading": asdict(reading),
        "python": platform.python_version(),
    }
