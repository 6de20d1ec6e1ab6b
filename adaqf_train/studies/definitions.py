"""The studies of the paper as data: what is trained on top of a recipe, and which claims the figures test."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from adaqf_train.errors import ConfigError
from adaqf_train.studies.metrics import FORGETTING, ON_VAL, RETRIEVAL
from adaqf_train.studies.schema import Arm, Claim, Source, Study

NO_FEEDBACK = ("feedback.motion=0", "feedback.text=0")
FROZEN = ("encoder.tuning=frozen", *NO_FEEDBACK)  # MDM: the baseline of every study
POOLED = ("denoiser.conditioning=pooled",)
PAPER_WEIGHTS = ((1, 1), (3, 1), (5, 1), (10, 1), (10, 2), (10, 3), (10, 5))
SAMPLES = (100, 250, 500, 1000)

BASELINE = Arm("baseline (MDM: frozen encoder, no feedback)", FROZEN)
FULL = Arm("AdaQF (LoRA and feedback)")
FULL_TUNING = Arm("feedback, all of the encoder tuned", ("encoder.tuning=full",))
POOLED_BASELINE = Arm("baseline, pooled text", (*FROZEN, *POOLED))
POOLED_FULL = Arm("AdaQF, pooled text", POOLED, against="pooled_baseline")

PAIRS = Arm("extractors that distinguish minimal pairs", ("extractors.objective=minimal_pairs",), against="full")
HEAVIER = Arm("both λ three times as large", ("feedback.motion*=3", "feedback.text*=3"), against="full")

BASE, ADACLIP, MOCLIP = Source("base"), Source("adaclip"), Source("moclip")
FAMILIES = {"mdm": "MDM", "pooled": "MDM, pooled text", "latent": "latent diffusion", "masked": "masked tokens"}
POOLING = ("pooled", "masked")  # families that read the pooled vector alone: their adapter is trained with it too


def _held(families: Iterable[str], encoders: Mapping[str, tuple[Source, str]]) -> dict[str, Arm]:
    """Arms FAMILY_ENCODER: generators under frozen encoders, compared with the family's generator under the base.

    An AdaCLIP is trained with the text features that the family reads, unless it is called "tokens".
    """
    arms = {}
    for family in families:
        for name, (source, title) in encoders.items():
            if family in POOLING and source.kind == "adaclip" and name != "tokens":
                source = replace(source, settings=(*source.settings, *POOLED))
            arm = Arm(f"{FAMILIES[family]}: {title}", kind=family, encoder=source, against=f"{family}_base")
            if family in ("mdm", "pooled"):
                # Under the base this is the baseline of the other studies, and shares its runs.
                settings = FROZEN if family == "mdm" else (*FROZEN, *POOLED)
                arm = replace(arm, kind="mdm", settings=settings, encoder=None if source == BASE else source)
            arms[f"{family}_{name}"] = arm
    return arms


def _better(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    claims = {
        "fid": "lower FID",
        "r_precision_3": "higher R-precision",
        "attributes": "attribute accuracy",
        "minimal_pairs": "minimal pairs",
    }
    return tuple(Claim(f"{what}: {text}", metric, arm, than) for metric, text in claims.items())


def _sooner(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """The claim of Fig. 1, "approximately 4x faster convergence", for both of its metrics."""
    return tuple(
        Claim(f"{what}: the reference's best {name} in a quarter of its steps", metric, arm, than, share=0.25)
        for metric, name in (("fid", "FID"), ("r_precision_3", "R-precision"))
    )


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
        "baseline": BASELINE,
        "recipe": Arm("AdaQF, the recipe's weights"),
        **{
            f"m{m}_t{t}": Arm(f"λ_M={m}, λ_T={t}", (f"feedback.motion={m}", f"feedback.text={t}"))
            for m, t in PAPER_WEIGHTS
        },
    },
    claims=tuple(
        Claim(f"λ_M={m}, λ_T={t} beats the baseline (FID)", "fid", f"m{m}_t{t}", "baseline") for m, t in PAPER_WEIGHTS
    ),
    seeds=1,
    may_coincide=True,
)
FEW_SAMPLES = Study(
    "samples",
    "Few training samples",
    "Fig. 5-7, Table 6",
    arms={
        f"{name}_{count}": Arm(
            f"{arm.title}, {count} clips", (*arm.settings, f"data.samples={count}"), against=f"baseline_{count}"
        )
        for count in SAMPLES
        for name, arm in (("baseline", BASELINE), ("full", FULL))
    }
    | {"baseline_all": BASELINE, "full_all": FULL},
    reference="baseline_all",
    claims=tuple(
        Claim(f"with {count} clips AdaQF lowers FID", "fid", f"full_{count}", f"baseline_{count}") for count in SAMPLES
    ),
    seeds=1,
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
    claims=(*_sooner("AdaQF", "full", "baseline"), *_sooner("AdaQF, pooled text", "pooled_full", "pooled_baseline")),
)
GUIDANCE = Study(
    "guidance",
    "FID against R-precision over guidance",
    "Not part",
    arms={"pooled_baseline": POOLED_BASELINE, "pooled_full": replace(POOLED_FULL, against=None)},
    claims=(
        Claim("AdaQF: lower FID at the same R@3", "fid", "pooled_full", "pooled_baseline", along="fid"),
        Claim(
            "AdaQF: higher R@3 at the same FID", "r_precision_3", "pooled_full", "pooled_baseline", along="precision"
        ),
        Claim("AdaQF: the area between the curves", "fid", "pooled_full", "pooled_baseline", along="area"),
        Claim("AdaQF: lower FID, each at its own guidance", "fid", "pooled_full", "pooled_baseline"),
        Claim("AdaQF: higher R@3, each at its own guidance", "r_precision_3", "pooled_full", "pooled_baseline"),
    ),
    # With these sizes, and without validation during training, three seeds take about 25 minutes on two cores.
    settings=(
        *("validation.every=none", "evaluation.replications=1", "evaluation.curve_replications=1"),
        *("evaluation.procedural_test=512", "evaluation.procedural_val=200"),
    ),
    note="Figures are on procedural clips beside the data set, by the independent evaluator: test clips without "
    "combinations that training never shows, such combinations alone (unseen), and 10,000 other real motions that FID "
    "compares with.",
)
TRANSFER = Study(
    "transfer",
    "AdaCLIP in other generators",
    "Table 3",
    arms=_held(FAMILIES, {"base": (BASE, "base"), "adaclip": (ADACLIP, "AdaCLIP")})
    | _held(POOLING, {"tokens": (ADACLIP, "AdaCLIP trained with token text")}),
    claims=tuple(
        claim
        for family, title in FAMILIES.items()
        for make in (_better, _sooner)
        for claim in make(f"AdaCLIP in {title}", f"{family}_adaclip", f"{family}_base")
    ),
)
DATASETS = Study(
    "datasets",
    "AdaCLIP of one data set on another",
    "Fig. 8",
    arms=_held(
        ("mdm", "latent", "masked"),
        {
            "base": (BASE, "base"),
            "other": (Source("adaclip", other_data=True), "AdaCLIP of the other data set"),
            "own": (ADACLIP, "AdaCLIP of this data set"),
        },
    ),
    claims=tuple(
        Claim(f"in {FAMILIES[f]} the other data set's AdaCLIP lowers FID", "fid", f"{f}_other", f"{f}_base")
        for f in ("mdm", "latent", "masked")
    ),
    seeds=1,
)
ENCODERS = Study(
    "encoders",
    "AdaCLIP and an encoder aligned contrastively",
    "Table 9",
    arms=_held(
        ("masked", "mdm"),
        {
            "base": (BASE, "base"),
            "moclip": (MOCLIP, "MoCLIP's way"),
            "adaclip": (ADACLIP, "AdaCLIP"),
        },
    )
    | _held(("masked",), {"tokens": (ADACLIP, "AdaCLIP trained with token text")})
    | _held(("mdm",), {"adaclip_pooled": (Source("adaclip", POOLED), "AdaCLIP trained with pooled text")}),
    claims=tuple(
        claim
        for family in ("masked", "mdm")
        for claim in _better(
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
IMPROVEMENTS = Study(
    "improvements",
    "Beyond the paper",
    "Not part",
    arms={
        "baseline": BASELINE,
        "full": replace(FULL, title="AdaQF"),
        "alpha_bar": Arm("feedback weighted by ᾱ_t", ("feedback.weighting=alpha_bar",), against="full"),
        "minimal_pairs": PAIRS,
        "noised": Arm("extractors trained on noised motions", ("extractors.noise=0.5",), against="full"),
        "heavier": HEAVIER,
        "both": Arm(f"{PAIRS.title}, {HEAVIER.title}", PAIRS.settings + HEAVIER.settings, against="full"),
    },
    metrics=ON_VAL,
    note="Means of the last three points of each curve on val, so that choices made here do not use the test split.",
)
# What the paper's feedback lacks, one part at a time. As in MoCLIP's way, 400 steps align the encoder.
PHYSICS = ("physics.velocity=0.3", "physics.feet=0.1")
_RATES = ("alignment.learning_rate=0.001", "alignment.encoder_learning_rate=0.001")
ALIGNED = ("alignment.steps=400", *_RATES, "alignment.weight=0.1")
_WON, _TO = "aligned_physics", "baseline"
METHOD = Study(
    "method",
    "Feedback that is met",
    "Not part",
    arms={
        "baseline": POOLED_BASELINE,
        "physics_baseline": Arm("baseline with physics", (*FROZEN, *POOLED, *PHYSICS)),
        "aligned_frozen": Arm(
            "frozen aligned encoder, no feedback", (*FROZEN, *POOLED, *ALIGNED, "alignment.weight=0")
        ),
        "full": replace(POOLED_FULL, against=None),
        "physics": Arm("AdaQF with physics", (*POOLED, *PHYSICS)),
        "aligned": Arm("AdaQF from the aligned encoder", (*POOLED, *ALIGNED)),
        "aligned_physics": Arm("AdaQF from the aligned encoder, with physics", (*POOLED, *ALIGNED, *PHYSICS)),
    }
    | {
        name: Arm(f"the same, {title}", (*POOLED, *ALIGNED, *PHYSICS, setting), against=_WON)
        for name, title, setting in (
            ("balanced", "feedback at half of the reconstruction's gradient", "feedback.balance=0.5"),
            ("hinged", "text feedback up to the real motion's", "feedback.hinge=true"),
            ("adversarial", "extractors trained against gradient steps", "extractors.adversarial=0.4"),
            ("hidden", "a hidden layer drawn to the extractors' features", "feedback.hidden=0.5"),
        )
    },
    claims=(
        Claim("lower FID at the same R@3", "fid", _WON, _TO, along="fid"),
        Claim("higher R@3 at the same FID", "r_precision_3", _WON, _TO, along="precision"),
        Claim("lower FID, each at its own guidance", "fid", _WON, _TO),
        Claim("higher R@3, each at its own guidance", "r_precision_3", _WON, _TO),
        Claim("higher attribute accuracy", "attributes", _WON, _TO),
        Claim("minimal pairs", "minimal_pairs", _WON, _TO),
        Claim("less jerk", "jerk", _WON, _TO),
        Claim("less skating", "skating", _WON, _TO),
        Claim(
            "feedback adds to a frozen aligned encoder (FID at the same R@3)",
            "fid",
            _WON,
            "aligned_frozen",
            along="fid",
        ),
        Claim("feedback adds to physics (FID at the same R@3)", "fid", _WON, "physics_baseline", along="fid"),
    ),
    seeds=5,
    settings=GUIDANCE.settings,
)
_ALL = (COMPONENTS, WEIGHTS, FEW_SAMPLES, FEEDBACK, CONVERGENCE, GUIDANCE, TRANSFER)
_ALL += (DATASETS, ENCODERS, FORGETS, FINDING, IMPROVEMENTS, METHOD)
STUDIES = {study.name: study for study in _ALL}


def load(name: str) -> Study:
    """Look up a study by its name; ConfigError, with the nearest name, if there is none."""
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1, cutoff=0)[0]
        raise ConfigError(f"There is no study {name!r}: choose from {', '.join(STUDIES)}. The nearest is {near!r}.")
    return STUDIES[name]
