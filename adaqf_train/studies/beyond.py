"""Studies beyond the paper: curves over guidance, and what its feedback lacks."""

from __future__ import annotations

from dataclasses import replace

from adaqf_train.studies.arms import (
    ADACLIP,
    BASE,
    BASELINE,
    FAMILIES,
    FROZEN,
    FULL,
    HEAVIER,
    MOCLIP,
    PAIRS,
    POOLED,
    POOLED_BASELINE,
    POOLED_FULL,
    POOLING,
    Encoders,
    better,
    curves,
    held,
)
from adaqf_train.studies.metrics import ON_VAL
from adaqf_train.studies.schema import Arm, Claim, Study

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


def _all(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """Claims about two arms' curves, and about what their motions do at the chosen guidance."""
    claims = {
        "attributes": "higher attribute accuracy",
        "minimal_pairs": "minimal pairs",
        "jerk": "less jerk",
        "skating": "less skating",
        "gap": "a smaller gap of the extractors",
    }
    return *curves(what, arm, than), *(Claim(f"{what}: {text}", name, arm, than) for name, text in claims.items())


# What the paper's feedback lacks, one part at a time. As in MoCLIP's way, 400 steps align the encoder.
PHYSICS = ("physics.velocity=0.3", "physics.feet=0.1")
LIGHT_PHYSICS = ("physics.velocity=0.1", "physics.feet=0.1")
_RATES = ("alignment.learning_rate=0.001", "alignment.encoder_learning_rate=0.001")
ALIGNED = ("alignment.steps=400", *_RATES, "alignment.weight=0.1")
# Long enough for the learning rate to fall to zero at the end, and for a longer moving average of the weights.
LONG = ("training.steps=3000", "training.cool_down=0.25", "training.ema=0.998")
# Extractors of which `adaqf probe` finds that a gradient step pleases the evaluators too, and does not shake the body.
ROBUST = ("extractors.objective=minimal_pairs", "extractors.adversarial=0.4", "extractors.smoothing=1")
METHOD = Study(
    "method",
    "Feedback that is met",
    "Not part",
    arms={
        "baseline": POOLED_BASELINE,
        "physics_baseline": Arm("baseline with physics", (*FROZEN, *POOLED, *PHYSICS)),
        "light_baseline": Arm("baseline with light physics", (*FROZEN, *POOLED, *LIGHT_PHYSICS)),
        "aligned_frozen": Arm(
            "frozen aligned encoder, no feedback", (*FROZEN, *POOLED, *ALIGNED, "alignment.weight=0")
        ),
        "full": replace(POOLED_FULL, against=None),
        "physics": Arm("AdaQF with physics", (*POOLED, *PHYSICS)),
        "aligned": Arm("AdaQF from the aligned encoder", (*POOLED, *ALIGNED)),
        "aligned_light": Arm("AdaQF from the aligned encoder, with light physics", (*POOLED, *ALIGNED, *LIGHT_PHYSICS)),
        "aligned_half": Arm(
            "the same, half of the steps",
            (*POOLED, *ALIGNED, *LIGHT_PHYSICS, "training.steps*=0.5"),
            against="aligned_light",
        ),
        "robust": Arm(
            "AdaQF from the aligned encoder, robust extractors, light physics",
            (*POOLED, *ALIGNED, *LIGHT_PHYSICS, *ROBUST),
        ),
        "long_baseline": Arm("baseline, 3,000 steps", (*FROZEN, *POOLED, *LONG)),
        "long_light": Arm(
            "AdaQF from the aligned encoder, with light physics, 3,000 steps",
            (*POOLED, *ALIGNED, *LIGHT_PHYSICS, *LONG),
            against="long_baseline",
        ),
        "aligned_physics": Arm("AdaQF from the aligned encoder, with physics", (*POOLED, *ALIGNED, *PHYSICS)),
    }
    | {
        name: Arm(f"the same, {title}", (*POOLED, *ALIGNED, *PHYSICS, setting), against="aligned_physics")
        for name, title, setting in (
            ("balanced", "feedback at half of the reconstruction's gradient", "feedback.balance=0.5"),
            ("hinged", "text feedback up to the real motion's", "feedback.hinge=true"),
            ("hidden", "a hidden layer drawn to the extractors' features", "feedback.hidden=0.5"),
        )
    },
    claims=(
        *_all("light physics, against the baseline", "aligned_light", "baseline"),
        *curves("light physics, against the frozen aligned encoder", "aligned_light", "aligned_frozen"),
        *curves("light physics, against the baseline with the same physics", "aligned_light", "light_baseline"),
        *curves("light physics, half of the steps, against the baseline with all", "aligned_half", "baseline"),
        *_all("light physics, 3,000 steps, against the baseline with as many", "long_light", "long_baseline"),
        *curves("light physics, 800 steps, against the baseline with 3,000", "aligned_light", "long_baseline"),
        *_all("robust extractors and light physics, against the baseline", "robust", "baseline"),
        *curves("robust extractors, against the others with light physics", "robust", "aligned_light"),
        Claim("robust extractors: a smaller gap", "gap", "robust", "aligned_light"),
        *curves("without physics, against the baseline", "aligned", "baseline"),
        *curves("without physics, against the frozen aligned encoder", "aligned", "aligned_frozen"),
        *curves("physics, against the baseline", "aligned_physics", "baseline"),
        Claim("physics, against the baseline: less jerk", "jerk", "aligned_physics", "baseline"),
        Claim("physics, against the baseline: less skating", "skating", "aligned_physics", "baseline"),
        *curves("physics added to AdaQF from the aligned encoder", "aligned_physics", "aligned"),
    ),
    seeds=5,
    settings=GUIDANCE.settings,
)
_RACE = ("aligned_light", "baseline")
METHOD_CONVERGENCE = Study(
    "method_convergence",
    "How fast the method learns",
    "Not part",
    arms={name: METHOD.arms[name] for name in ("baseline", "aligned_light")},
    claims=(
        *(
            Claim(
                f"{100 * way:g} % of the way to real motions' FID in half of the steps",
                "fid",
                *_RACE,
                share=0.5,
                way=way,
            )
            for way in (0.9, 0.95)
        ),
        Claim("the baseline's best R@3 in half of its steps", "r_precision_3", *_RACE, share=0.5),
    ),
    # Guidance 1 lies between those that val chooses for these arms.
    settings=(
        *("validation.every=25", "sampling.guidance=1", "evaluation.guidances=1", "evaluation.choose=none"),
        *("evaluation.replications=1", "evaluation.curve_replications=1"),
        *("evaluation.procedural_test=512", "evaluation.procedural_val=200"),
    ),
    note="Figures are on the test split, by the independent evaluator, at guidance 1. Curves of the training are on "
    "val, with a point every 25 steps. Steps that align the encoder before the training do not count.",
)
TRANSFERS = (*POOLING, "latent")


def held_aligned(others: Encoders, adaclips: Encoders) -> dict[str, Arm]:
    """Arms FAMILY_ENCODER of the three families, of which the AdaCLIPs come from a training from the aligned encoder.

    The family that reads token states gets an AdaCLIP that was trained with them.
    """

    def encoders(settings: tuple[str, ...]) -> Encoders:
        trained = {name: (replace(source, settings=settings), title) for name, (source, title) in adaclips.items()}
        return {**others, **trained}

    return held(POOLING, encoders(METHOD.arms["aligned"].settings)) | held(("latent",), encoders(ALIGNED))


METHOD_TRANSFER = Study(
    "method_transfer",
    "The method's encoder in other generators",
    "Not part",
    arms=held_aligned(
        {"base": (BASE, "base"), "moclip": (MOCLIP, "MoCLIP's way")},
        {"adaclip": (ADACLIP, "AdaCLIP from the aligned encoder")},
    ),
    claims=tuple(
        claim
        for family in TRANSFERS
        for other, title in (("base", "the base"), ("moclip", "MoCLIP's way"))
        for claim in better(f"AdaCLIP against {title} in {FAMILIES[family]}", f"{family}_adaclip", f"{family}_{other}")
    ),
    seeds=5,
    settings=GUIDANCE.settings,
)
