"""The studies of the paper as data: what is trained on top of a recipe, and which claims the figures test."""

from __future__ import annotations

import difflib
from dataclasses import replace

from adaqf_train.errors import ConfigError
from adaqf_train.studies.arms import (
    ADACLIP,
    BASE,
    BASELINE,
    FAMILIES,
    FULL,
    FULL_TUNING,
    MOCLIP,
    NO_FEEDBACK,
    PAPER_WEIGHTS,
    POOLED,
    POOLED_BASELINE,
    POOLED_FULL,
    POOLING,
    SAMPLES,
    better,
    curves,
    held,
    sooner,
)
from adaqf_train.studies.beyond import (
    GUIDANCE,
    IMPROVEMENTS,
    METHOD,
    METHOD_CONVERGENCE,
    METHOD_TRANSFER,
    TRANSFERS,
    held_aligned,
)
from adaqf_train.studies.metrics import FORGETTING, RETRIEVAL
from adaqf_train.studies.schema import Arm, Claim, Source, Study

COMPONENTS = Study(
    "components",
    "What each part contributes",
    "Table 4, Fig. 9",
    arms={
        "baseline": BASELINE,
        "constraints": Arm("feedback, frozen encoder", ("encoder.tuning=frozen",)),
        "lora": Arm("LoRA, no feedback", NO_FEEDBACK),
        "full": FULL,
        "full_tuning": FULL_TUNING,
        "pooled_baseline": POOLED_BASELINE,
        "pooled_full": POOLED_FULL,
    },
    claims=(
        Claim("lower FID", "fid", "full", "baseline"),
        Claim("higher R-precision", "r_precision_3", "full", "baseline"),
        Claim("motions do what the text says (attribute accuracy)", "attributes", "full", "baseline"),
        Claim("motions are distinguished from their minimal pairs", "minimal_pairs", "full", "baseline"),
        Claim("feet skate less", "skating", "full", "baseline"),
        Claim("feedback alone lowers FID", "fid", "constraints", "baseline"),
        Claim("LoRA without feedback is worse than the baseline (FID)", "fid", "baseline", "lora"),
        Claim("LoRA beats full tuning (FID)", "fid", "full", "full_tuning"),
        Claim("LoRA beats full tuning (R-precision)", "r_precision_3", "full", "full_tuning"),
        Claim("with pooled text, AdaQF lowers FID", "fid", "pooled_full", "pooled_baseline"),
        Claim("with pooled text, AdaQF raises R-precision", "r_precision_3", "pooled_full", "pooled_baseline"),
    ),
)
WEIGHTS = Study(
    "weights",
    "The feedback's weights",
    "Table 5, Fig. 4",
    arms={
        "baseline": POOLED_BASELINE,
        "recipe": Arm("AdaQF, the recipe's weights", POOLED),
        **{
            f"m{m}_t{t}": Arm(f"λ_M={m}, λ_T={t}", (*POOLED, f"feedback.motion={m}", f"feedback.text={t}"))
            for m, t in PAPER_WEIGHTS
        },
    },
    claims=tuple(
        Claim(f"λ_M={m}, λ_T={t} beats the baseline (FID)", "fid", f"m{m}_t{t}", "baseline") for m, t in PAPER_WEIGHTS
    ),
    seeds=1,
    may_coincide=True,
    settings=GUIDANCE.settings,
)
_WAYS = {
    "baseline": POOLED_BASELINE,
    "full": replace(POOLED_FULL, title="AdaQF"),
    "aligned_light": METHOD.arms["aligned_light"],
}
FEW_SAMPLES = Study(
    "samples",
    "Few training samples",
    "Fig. 5-7, Table 6",
    arms={
        f"{name}_{count}": Arm(
            f"{arm.title}, {count} clips", (*arm.settings, f"data.samples={count}"), against=f"baseline_{count}"
        )
        for count in SAMPLES
        for name, arm in _WAYS.items()
    }
    | {
        f"{name}_all": replace(arm, title=f"{arm.title}, all clips", against="baseline_all")
        for name, arm in _WAYS.items()
    },
    reference="baseline_all",
    claims=tuple(
        Claim(f"with {count} clips {title} lowers FID", "fid", f"{name}_{count}", f"baseline_{count}")
        for count in SAMPLES
        for name, title in (("full", "AdaQF"), ("aligned_light", "AdaQF from the aligned encoder"))
    ),
    seeds=1,
    settings=GUIDANCE.settings,
)
FEEDBACK = Study(
    "feedback",
    "Which extractors give the feedback",
    "Table 7",
    arms={
        "baseline": BASELINE,
        "ours": FULL,
        "margin": Arm("feedback by a margin-loss pair (T2M's)", ("extractors.objective=margin",)),
    },
    claims=(
        Claim("our extractors give the better feedback (FID)", "fid", "ours", "margin"),
        Claim("our extractors give the better feedback (R-precision)", "r_precision_3", "ours", "margin"),
    ),
    seeds=1,
)
CONVERGENCE = Study(
    "convergence",
    "How fast it learns",
    "Fig. 1",
    arms={"baseline": BASELINE, "full": FULL, "pooled_baseline": POOLED_BASELINE, "pooled_full": POOLED_FULL},
    claims=(*sooner("AdaQF", "full", "baseline"), *sooner("AdaQF, pooled text", "pooled_full", "pooled_baseline")),
)
TRANSFER = Study(
    "transfer",
    "AdaCLIP in other generators",
    "Table 3",
    arms=held(FAMILIES, {"base": (BASE, "base"), "adaclip": (ADACLIP, "AdaCLIP")})
    | held(POOLING, {"tokens": (ADACLIP, "AdaCLIP trained with token text")}),
    claims=tuple(
        claim
        for family, title in FAMILIES.items()
        for make in (better, sooner)
        for claim in make(f"AdaCLIP in {title}", f"{family}_adaclip", f"{family}_base")
    ),
)
DATASETS = Study(
    "datasets",
    "AdaCLIP of one data set on another",
    "Fig. 8",
    arms=held_aligned(
        {"base": (BASE, "base")},
        {
            "other": (Source("adaclip", other_data=True), "AdaCLIP of the other data set"),
            "own": (ADACLIP, "AdaCLIP of this data set"),
        },
    ),
    claims=tuple(
        claim
        for family in TRANSFERS
        for claim in curves(f"the other data set's AdaCLIP in {FAMILIES[family]}", f"{family}_other", f"{family}_base")
    ),
    seeds=1,
    settings=GUIDANCE.settings,
)
ENCODERS = Study(
    "encoders",
    "AdaCLIP and an encoder aligned contrastively",
    "Table 9",
    arms=held(
        ("masked", "mdm"),
        {
            "base": (BASE, "base"),
            "moclip": (MOCLIP, "MoCLIP's way"),
            "adaclip": (ADACLIP, "AdaCLIP"),
        },
    )
    | held(("masked",), {"tokens": (ADACLIP, "AdaCLIP trained with token text")})
    | held(("mdm",), {"adaclip_pooled": (Source("adaclip", POOLED), "AdaCLIP trained with pooled text")}),
    claims=tuple(
        claim
        for family in ("masked", "mdm")
        for claim in better(
            f"AdaCLIP against MoCLIP's way in {FAMILIES[family]}", f"{family}_adaclip", f"{family}_moclip"
        )
    ),
)
FORGETS = Study(
    "forgetting",
    "What the encoder retains of its base",
    "A.7",
    arms={
        "base": Arm("base", kind="encoder", encoder=BASE),
        "adaclip": Arm("AdaCLIP (LoRA and feedback)", kind="encoder", encoder=ADACLIP),
        "lora": Arm("LoRA, no feedback", kind="encoder", encoder=Source("adaclip", NO_FEEDBACK)),
        "full_tuning": Arm(FULL_TUNING.title, kind="encoder", encoder=Source("adaclip", FULL_TUNING.settings)),
        "moclip": Arm("MoCLIP's way (LoRA)", kind="encoder", encoder=MOCLIP),
    },
    claims=(
        Claim("LoRA retains more of the base's similarities", "kept_spearman", "adaclip", "full_tuning"),
        Claim("LoRA retains more of the base's knowledge of poses", "still_r3", "adaclip", "full_tuning"),
    ),
    seeds=1,
    metrics=FORGETTING,
    note="Similarities of a hundred prompts that are not about motion, and still poses of the test split.",
)
FINDING = Study(
    "retrieval",
    "Finding motions by text",
    "Table 8",
    arms={
        "ours": Arm("ours (InfoNCE)", kind="extractors"),
        "margin": Arm("margin loss (T2M's)", ("extractors.objective=margin",), kind="extractors"),
    },
    reference="margin",
    claims=tuple(
        Claim(f"better {way.replace('_', ' ')}, {title}", f"{where}_{way}_r1", "ours", "margin")
        for where, title in (("pools", "pools"), ("whole", "whole split"))
        for way in ("text_to_motion", "motion_to_text")
    ),
    seeds=1,
    metrics=RETRIEVAL,
    note="Real motions of the test split and their captions, judged by the extractors themselves.",
)
_ALL = (COMPONENTS, WEIGHTS, FEW_SAMPLES, FEEDBACK, CONVERGENCE, GUIDANCE, TRANSFER)
_ALL += (DATASETS, ENCODERS, FORGETS, FINDING, IMPROVEMENTS, METHOD, METHOD_CONVERGENCE, METHOD_TRANSFER)
STUDIES = {study.name: study for study in _ALL}


def load(name: str) -> Study:
    """Look up a study by its name; ConfigError, with the nearest name, if there is none."""
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1, cutoff=0)[0]
        raise ConfigError(f"There is no study {name!r}: choose from {', '.join(STUDIES)}. The nearest is {near!r}.")
    return STUDIES[name]
