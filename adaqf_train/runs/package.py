"""The packaged models: a finished run's encoder, generator and evaluator as small files in the two packages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from adaclip import AdaCLIP
from adaclip.card import CardDetails
from adaclip.files import atomic_file, atomic_folder, read_json, write_json
from adaclip.integrity import write_digests
from adaclip.packaged import ENCODER, NAME
from adaqf_train.artefacts import CONFIG, POCKET, WEIGHTS, read_tensors
from adaqf_train.config import POCKET_BASE, RunConfig
from adaqf_train.data.prepare.procedural_sets import origin_of
from adaqf_train.errors import RunError
from adaqf_train.evaluation import columns
from adaqf_train.evaluation.columns import Figure
from adaqf_train.evaluation.scores import ATTRIBUTE
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.folder import CARD, GENERATOR, save_packaged
from adaqf_train.judges import store
from adaqf_train.runs.layout import ADAQF, read_config
from adaqf_train.runs.publish import LICENCE, NO_TERMS, PROCEDURAL, figures, finished

# Figures of the card: those that a viewer of the motions notices, and what they should be beside real motions'.
SHOWN = ("fid", "r_precision_3", "mm_dist", "skating", "slide_mm", "jitter_mm", "jerk", "bone_change")
PROMPTS = ("a person walks forward", "a person waves twice with the left hand", "a person turns right", "a person sits")


def package(folder: Path, out: Path, steps: int | None = None) -> dict[str, int]:
    """Write the packaged models from a finished run on procedural motions.

    Args:
        folder: The run, with a report (`adaqf evaluate --run`).
        out: A checkout, or any folder; the models go to adaclip/pocket and adaqf_train/pocket in it.
        steps: Sampling steps of the generator; None: the run's.

    Returns:
        Bytes of each network, by its folder in `out`.

    Raises:
        RunError: The run is not finished, or has no adapter over a base of its own.
        DataError: The run's data are not procedural, so that the licence would not hold.
    """
    run, config, report = finished(folder)
    origin_of(read_config(folder)[1])
    if config.encoder.base != POCKET_BASE:
        raise RunError(
            f"{folder}: adapts {config.encoder.base}, too large for a package. Use: --set encoder.base=pocket."
        )
    if not run.verified(run.evaluator.name).is_dir():
        raise RunError(f"{run.evaluator}: missing. Run: adaqf evaluator with this run's options.")
    generator = MotionGenerator.from_pretrained(run.adaqf)
    generator.sampling = _sampling(config, report, steps)
    details = _details(config, report, generator)
    encoder, pocket = out / ENCODER.parent.name / ENCODER.name, out / POCKET.parent.name / POCKET.name
    with tempfile.TemporaryDirectory() as temporary:
        base = _halved_base(run.pocket_clip, Path(temporary) / "base")
        AdaCLIP.from_pretrained(run.adaclip, base=base).save_for_hub(encoder, NAME, details=details)
    with atomic_folder(pocket) as staging:
        save_packaged(staging / GENERATOR.name, generator, encoder)
        judge, tokenizer, statistics = store.load_evaluator(run.evaluator)
        store.save_evaluator(staging / run.evaluator.name, judge, statistics, tokenizer, half=True)
        with atomic_file(staging / CARD) as card:
            card.write_text(_card(details), encoding="utf-8")
    parts = (encoder, pocket / GENERATOR.name, pocket / run.evaluator.name)
    return {
        part.relative_to(out).as_posix(): sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        for part in parts
    }


def change_by_halving(folder: Path, out: Path) -> float:
    """How far half precision moves a joint at most, in millimetres, over a few prompts."""
    packed = MotionGenerator.from_pretrained(out / POCKET.parent.name / POCKET.name / GENERATOR.name)
    whole = MotionGenerator.from_pretrained(folder / ADAQF)
    whole.sampling = packed.sampling
    pairs = zip(whole.generate(PROMPTS), packed.generate(PROMPTS), strict=True)
    return 1000 * max(float(np.linalg.norm(one - other, axis=-1).max()) for one, other in pairs)


def _sampling(config: RunConfig, report: Mapping, steps: int | None) -> object:
    """The sampling of the run, at the guidance that its report chose on val."""
    chosen = report["curves"].get(ADAQF, {}).get("chosen", config.sampling.guidance)
    return replace(config.sampling, guidance=chosen, steps=config.sampling.steps if steps is None else steps)


def _halved_base(source: Path, folder: Path) -> Path:
    """A copy of a base with its weights in half precision, which loads in single precision."""
    shutil.copytree(source, folder)
    tensors = {name: value.half() for name, value in read_tensors(source / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, read_json(folder / CONFIG) | {"dtype": "float32"})
    write_digests(folder)
    return folder


def _details(config: RunConfig, report: Mapping, generator: MotionGenerator) -> CardDetails:
    rows = report["rows"]
    metrics = figures(rows[ADAQF])
    titles = columns.COLUMNS | {name: name.removeprefix(ATTRIBUTE) for name in rows["gt"] if name.startswith(ATTRIBUTE)}
    shown = [name for name in titles if name in SHOWN or name.startswith(ATTRIBUTE)]
    lines = ["| figure | real motions | generated |", "|---|---|---|"]
    lines += [f"| {titles[n]} | {_cell(rows['gt'], n)} | {_cell(rows[ADAQF], n)} |" for n in shown if n in rows[ADAQF]]
    scored, own = config.sampling, generator.sampling
    more = "\n".join(
        [
            "## Figures of the generator",
            "",
            *lines,
            "",
            f"{report['samples']:,} motions of the {config.evaluation.split} split by the packaged evaluator, with "
            f"{scored.steps} steps of {scored.scheduler} and guidance {own.guidance:g};",
            f"the packaged generator takes {own.steps} steps. Jerk is a distance to that of real motions.",
            "Side, both, direction, turn, angle, speed, count and order are shares of prompts whose motion does what",
            "they say, measured on the joints.",
            "",
            f"Recipe {config.recipe}: {config.training.steps:,} steps of the generator with batches of "
            f"{config.training.batch}, seed {config.training.seed}.",
        ]
    )
    return CardDetails(LICENCE, (PROCEDURAL,), metrics, more, NO_TERMS)


def _cell(row: Mapping[str, Figure], name: str) -> str:
    mean = row.get(name, {}).get("mean")
    return "–" if mean is None else f"{mean:.3f}"


def _card(details: CardDetails) -> str:
    return f"""# The packaged generator and evaluator ({NAME})

`generator/` makes motions from sentences in the words of the procedural motions. `evaluator/` scores such motions; its
figures of other motions mean nothing. The text encoder lies in `adaclip/pocket`. Parameters are in half precision and
are computed with in single precision.

{details.more}

## Licence

{details.license}. {details.terms}
"""
