"""The studies of the paper as data: what is trained, on top of a recipe, and what is claimed of it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal

from adaqf_train.errors import ConfigError
from adaqf_train.studies.metrics import FORGETTING, GENERATION, ON_VAL, RETRIEVAL

FROZEN = ("encoder.tuning=frozen", "feedback.motion=0", "feedback.text=0")  # MDM: the baseline of every study
POOLED = ("denoiser.conditioning=pooled",)
# What is trained and scored: a generator of one of three families, the feedback's extractors, or an encoder by itself.
Kind = Literal["mdm", "latent", "masked", "extractors", "encoder"]


@dataclass(frozen=True)
class Source:
    """Where a text encoder comes from that is held fixed while a generator is trained."""

    kind: Literal["base", "adaclip", "moclip"]
    settings: tuple[str, ...] = ()  # of the training that an AdaCLIP comes from
    other_data: bool = False  # that it was trained on: the study's other data set


@dataclass(frozen=True)
class Arm:
    """One way of training; its settings are what `--set` takes."""

    title: str
    settings: tuple[str, ...] = ()
    kind: Kind = "mdm"
    encoder: Source | None = None  # None: of MDM's family it is trained, or not, as the settings say
    against: str | None = None  # arm that differences are taken to; None: the study's reference


@dataclass(frozen=True)
class Claim:
    """What the paper says, as a comparison that a table can decide: `arm` is better than `than` on `metric`.

    share: the claim is of speed instead. `arm` is as good on val as `than` ever becomes, after at most this share of
    the steps that `than` takes to it.
    """

    text: str
    metric: str
    arm: str
    than: str
    share: float | None = None


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
    metrics: tuple[str, ...] = GENERATION  # columns of its tables, of `metrics.METRICS`
    told: str = "Test split, by the independent evaluator; curves on val, those of masked tokens of their base level."

    def against(self, arm: str) -> str:
        """The arm that this one's differences are taken to: itself when there is none."""
        return self.arms[arm].against or self.reference


def _full_is_better(arm: str, than: str) -> tuple[Claim, ...]:
    """The claim of Table 4's last row, metric by metric."""
    return (
        Claim("lower FID", "fid", arm, than),
        Claim("higher R-precision", "r_precision_3", arm, than),
        Claim("motions do what the words say (attribute accuracy)", "attributes", arm, than),
        Claim("motions are told from their minimal pairs", "minimal_pairs", arm, than),
        Claim("feet skate less", "skating", arm, than),
    )


def _sooner(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """The claim of Fig. 1, for both of its metrics."""
    return tuple(
        Claim(f"{what}: the reference's best {name} in a quarter of its steps", metric, arm, than, share=QUARTER)
        for metric, name in (("fid", "FID"), ("r_precision_3", "R-precision"))
    )


def _better(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    return tuple(
        Claim(f"{what}: {text}", metric, arm, than)
        for text, metric in (
            ("lower FID", "fid"),
            ("higher R-precision", "r_precision_3"),
            ("attribute accuracy", "attributes"),
            ("minimal pairs", "minimal_pairs"),
        )
    )


BASELINE = Arm("baseline (MDM: frozen encoder, no feedback)", FROZEN)
FULL = Arm("AdaQF (LoRA and feedback)")
POOLED_BASELINE = Arm("baseline, pooled text", (*FROZEN, *POOLED))
POOLED_FULL = Arm("AdaQF, pooled text", POOLED, against="pooled_baseline")
BASE, ADACLIP, MOCLIP = Source("base"), Source("adaclip"), Source("moclip")
FAMILIES = {
    "mdm": "MDM",
    "pooled": "MDM, pooled text",
    "latent": "latent diffusion",
    "masked": "masked tokens",
}
QUARTER = 0.25  # "approximately 4x faster convergence"
PAPER_WEIGHTS = ((1, 1), (3, 1), (5, 1), (10, 1), (10, 2), (10, 3), (10, 5))
HEAVIER = ("feedback.motion=0.06", "feedback.text=0.3")  # than the pocket recipe's
SAMPLES = (100, 250, 500, 1000)


def _held(family: str, source: Source, title: str, against: str) -> Arm:
    """A generator of a family under an encoder that is held fixed."""
    title = f"{FAMILIES[family]}: {title}"
    if family in ("mdm", "pooled"):
        # Under the base this is the baseline of the other studies, whose runs serve here.
        settings = FROZEN if family == "mdm" else (*FROZEN, *POOLED)
        return Arm(title, settings, encoder=None if source.kind == "base" else source, against=against)
    return Arm(title, kind=family, encoder=source, against=against)


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
                "pooled_baseline": POOLED_BASELINE,
                "pooled_full": POOLED_FULL,
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
                f"{name}_{count}": Arm(
                    f"{arm.title}, {count} clips", (*arm.settings, f"data.samples={count}"), against=f"baseline_{count}"
                )
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
        Study(
            "convergence",
            "How fast it learns",
            "Fig. 1",
            (),
            {"baseline": BASELINE, "full": FULL, "pooled_baseline": POOLED_BASELINE, "pooled_full": POOLED_FULL},
            reference="baseline",
            seeds=3,
            claims=(
                *_sooner("AdaQF", "full", "baseline"),
                *_sooner("AdaQF, pooled text", "pooled_full", "pooled_baseline"),
            ),
        ),
        Study(
            "transfer",
            "AdaCLIP in other generators",
            "Table 3",
            (3,),
            {
                f"{family}_{name}": _held(family, source, title, f"{family}_base")
                for family in FAMILIES
                for name, source, title in (("base", BASE, "base"), ("adaclip", ADACLIP, "AdaCLIP"))
            },
            reference="mdm_base",
            seeds=3,
            claims=tuple(
                claim
                for family, title in FAMILIES.items()
                for make in (_better, _sooner)
                for claim in make(f"AdaCLIP in {title}", f"{family}_adaclip", f"{family}_base")
            ),
        ),
        Study(
            "datasets",
            "AdaCLIP of one data set on another",
            "Fig. 8",
            (),
            {
                f"{family}_{name}": _held(family, source, title, f"{family}_base")
                for family in ("mdm", "latent", "masked")
                for name, source, title in (
                    ("base", BASE, "base"),
                    ("other", Source("adaclip", other_data=True), "AdaCLIP of the other data set"),
                    ("own", ADACLIP, "AdaCLIP of this data set"),
                )
            },
            reference="mdm_base",
            seeds=1,
            claims=tuple(
                Claim(
                    f"in {FAMILIES[family]} the other data set's AdaCLIP lowers FID",
                    "fid",
                    f"{family}_other",
                    f"{family}_base",
                )
                for family in ("mdm", "latent", "masked")
            ),
        ),
        Study(
            "encoders",
            "AdaCLIP beside an encoder aligned by contrast",
            "Table 9",
            (9,),
            {
                f"{family}_{name}": _held(family, source, title, f"{family}_base")
                for family in ("masked", "mdm")
                for name, source, title in (
                    ("base", BASE, "base"),
                    ("moclip", MOCLIP, "MoCLIP's way"),
                    ("adaclip", ADACLIP, "AdaCLIP"),
                    ("adaclip_pooled", Source("adaclip", POOLED), "AdaCLIP trained with pooled text"),
                )
            },
            reference="masked_base",
            seeds=3,
            claims=tuple(
                claim
                for family in ("masked", "mdm")
                for claim in _better(
                    f"AdaCLIP against MoCLIP's way in {FAMILIES[family]}", f"{family}_adaclip", f"{family}_moclip"
                )
            ),
        ),
        Study(
            "forgetting",
            "What the encoder keeps of its base",
            "A.7",
            (),
            {
                name: Arm(title, kind="encoder", encoder=source)
                for name, title, source in (
                    ("base", "base", BASE),
                    ("adaclip", "AdaCLIP (LoRA and feedback)", ADACLIP),
                    ("lora", "LoRA, no feedback", Source("adaclip", ("feedback.motion=0", "feedback.text=0"))),
                    ("full_tuning", "feedback, all of the encoder tuned", Source("adaclip", ("encoder.tuning=full",))),
                    ("moclip", "MoCLIP's way (LoRA)", MOCLIP),
                )
            },
            reference="base",
            seeds=1,
            claims=(
                Claim("LoRA keeps more of the base's similarities", "kept_spearman", "adaclip", "full_tuning"),
                Claim("LoRA keeps more of what the base knew of poses", "still_r3", "adaclip", "full_tuning"),
            ),
            metrics=FORGETTING,
            told="Similarities of a hundred prompts that are not about motion, and still poses of the test split.",
        ),
        Study(
            "retrieval",
            "Finding motions by text",
            "Table 8",
            (8,),
            {
                "ours": Arm("ours (InfoNCE)", kind="extractors"),
                "margin": Arm("margin loss (T2M's)", ("extractors.objective=margin",), kind="extractors"),
            },
            reference="margin",
            seeds=1,
            claims=(
                Claim("better text to motion, pools", "pools_text_to_motion_r1", "ours", "margin"),
                Claim("better motion to text, pools", "pools_motion_to_text_r1", "ours", "margin"),
                Claim("better text to motion, whole split", "whole_text_to_motion_r1", "ours", "margin"),
                Claim("better motion to text, whole split", "whole_motion_to_text_r1", "ours", "margin"),
            ),
            metrics=RETRIEVAL,
            told="Real motions of the test split and their captions, by the extractors themselves.",
        ),
        Study(
            "improvements",
            "Beyond the paper",
            "Not part",
            (),
            {
                "baseline": BASELINE,
                "full": replace(FULL, title="AdaQF"),
                "alpha_bar": Arm("feedback weighted by ᾱ_t", ("feedback.weighting=alpha_bar",), against="full"),
                "minimal_pairs": Arm(
                    "extractors that tell minimal pairs", ("extractors.objective=minimal_pairs",), against="full"
                ),
                "noised": Arm("extractors trained on noised motions", ("extractors.noise=0.5",), against="full"),
                "heavier": Arm("both λ three times as large", HEAVIER, against="full"),
                "both": Arm(
                    "extractors that tell minimal pairs, both λ three times as large",
                    ("extractors.objective=minimal_pairs", *HEAVIER),
                    against="full",
                ),
            },
            reference="baseline",
            seeds=3,
            metrics=ON_VAL,
            told="Val alone, means of the last three points of each curve: what is chosen here has not seen test.",
        ),
    )
}


def load(name: str) -> Study:
    """The study of that name, or ConfigError with the nearest."""
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1, cutoff=0)[0]
        raise ConfigError(f"There is no study {name!r}: choose from {', '.join(STUDIES)}. The nearest is {near!r}.")
    return STUDIES[name]
