"""The studies of the paper as data: what is trained, on top of a recipe, and what is claimed of it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Literal

from adaqf_train.config import ConfigError

FROZEN = ("encoder.tuning=frozen", "feedback.motion=0", "feedback.text=0")  # MDM: the baseline of every study
Generator = Literal["mdm", "latent", "tokens"]


@dataclass(frozen=True)
class Arm:
    """One way of training; its settings are what `--set` takes."""

    title: str
    settings: tuple[str, ...] = ()
    generator: Generator = "mdm"
    encoder: str | None = None  # "study/arm" whose encoder is taken as it is, frozen; None: as the settings say
    encoder_from: str | None = None  # data set that encoder was trained on; None: this one


@dataclass(frozen=True)
class Claim:
    """What the paper says, as a comparison that a table can decide: `arm` is better than `than` on `metric`."""

    text: str
    metric: str
    arm: str
    than: str


@dataclass(frozen=True)
class Study:
    """Arms that differ in one thing, and the claims they test."""

    name: str
    title: str
    paper: str  # where the paper has it
    tables: tuple[int, ...]  # the paper's tables to set beside ours
    arms: dict[str, Arm]
    reference: str  # arm that differences are taken to
    seeds: int  # that a verdict asks for
    claims: tuple[Claim, ...] = field(default=())


def _full_is_better(arm: str, than: str) -> tuple[Claim, ...]:
    """The claim of Table 4's last row, metric by metric."""
    return (
        Claim("lower FID", "fid", arm, than),
        Claim("higher R-precision", "r_precision_3", arm, than),
        Claim("motions do what the words say (attribute accuracy)", "attributes", arm, than),
        Claim("motions are told from their minimal pairs", "minimal_pairs", arm, than),
        Claim("feet skate less", "skating", arm, than),
    )


BASELINE = Arm("baseline (MDM: frozen encoder, no feedback)", FROZEN)
FULL = Arm("AdaQF (LoRA and feedback)")
PAPER_WEIGHTS = ((1, 1), (3, 1), (5, 1), (10, 1), (10, 2), (10, 3), (10, 5))
SAMPLES = (100, 250, 500, 1000)

STUDIES = {
    study.name: study
    for study in (
        Study(
            "components",
            "What each part contributes",
            "Table 4, Fig. 9",
            (4,),
            {
                "baseline": BASELINE,
                "constraints": Arm("feedback, frozen encoder", ("encoder.tuning=frozen",)),
                "lora": Arm("LoRA, no feedback", ("feedback.motion=0", "feedback.text=0")),
                "full": FULL,
                "full_tuning": Arm("feedback, all of the encoder tuned", ("encoder.tuning=full",)),
                "pooled_baseline": Arm("baseline, pooled text", (*FROZEN, "denoiser.conditioning=pooled")),
                "pooled_full": Arm("AdaQF, pooled text", ("denoiser.conditioning=pooled",)),
            },
            reference="baseline",
            seeds=3,
            claims=(
                *_full_is_better("full", "baseline"),
                Claim("feedback alone lowers FID", "fid", "constraints", "baseline"),
                Claim("LoRA without feedback is worse than the baseline (FID)", "fid", "baseline", "lora"),
                Claim("LoRA beats full tuning (FID)", "fid", "full", "full_tuning"),
                Claim("LoRA beats full tuning (R-precision)", "r_precision_3", "full", "full_tuning"),
                Claim("with pooled text, AdaQF lowers FID", "fid", "pooled_full", "pooled_baseline"),
                Claim("with pooled text, AdaQF raises R-precision", "r_precision_3", "pooled_full", "pooled_baseline"),
            ),
        ),
        Study(
            "weights",
            "The feedback's weights",
            "Table 5, Fig. 4",
            (5,),
            {
                "baseline": BASELINE,
                "recipe": Arm("AdaQF, the recipe's weights"),
                **{
                    f"m{motion}_t{text}": Arm(
                        f"λ_M={motion}, λ_T={text}", (f"feedback.motion={motion}", f"feedback.text={text}")
                    )
                    for motion, text in PAPER_WEIGHTS
                },
            },
            reference="baseline",
            seeds=1,
            claims=tuple(
                Claim(f"λ_M={m}, λ_T={t} beats the baseline (FID)", "fid", f"m{m}_t{t}", "baseline")
                for m, t in PAPER_WEIGHTS
            ),
        ),
        Study(
            "samples",
            "Few training samples",
            "Fig. 5-7, Table 6",
            (6,),
            {
                f"{name}_{count}": Arm(f"{arm.title}, {count} clips", (*arm.settings, f"data.samples={count}"))
                for count in SAMPLES
                for name, arm in (("baseline", BASELINE), ("full", FULL))
            }
            | {"baseline_all": BASELINE, "full_all": FULL},
            reference="baseline_all",
            seeds=1,
            claims=tuple(
                Claim(f"with {count} clips AdaQF lowers FID", "fid", f"full_{count}", f"baseline_{count}")
                for count in SAMPLES
            ),
        ),
        Study(
            "feedback",
            "Whose extractors give the feedback",
            "Table 7",
            (7,),
            {
                "baseline": BASELINE,
                "ours": FULL,
                "margin": Arm("feedback by a margin-loss pair (T2M's)", ("extractors.objective=margin",)),
            },
            reference="baseline",
            seeds=1,
            claims=(
                Claim("our extractors give the better feedback (FID)", "fid", "ours", "margin"),
                Claim("our extractors give the better feedback (R-precision)", "r_precision_3", "ours", "margin"),
            ),
        ),
    )
}


def load(name: str) -> Study:
    """The study of that name, or ConfigError with the nearest."""
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1, cutoff=0)[0]
        raise ConfigError(f"There is no study {name!r}: choose from {', '.join(STUDIES)}. The nearest is {near!r}.")
    return STUDIES[name]
