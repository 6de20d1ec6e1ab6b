"""What studies are put together from: arms, sources of text encoders, and claims about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from adaqf_train.studies.schema import Arm, Claim, Source

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
Encoders = Mapping[str, tuple[Source, str]]  # name -> source and title


def held(families: Iterable[str], encoders: Encoders) -> dict[str, Arm]:
    """Arms FAMILY_ENCODER: generators under frozen encoders, compared with the family's generator under the base.

    An AdaCLIP is trained with the text features that the family reads, unless it is called "tokens".
    """
    arms = {}
    for family in families:
        for name, (source, title) in encoders.items():
            pools = family in POOLING and source.kind == "adaclip" and name != "tokens"
            if pools and not set(POOLED) <= set(source.settings):
                source = replace(source, settings=(*source.settings, *POOLED))
            arm = Arm(f"{FAMILIES[family]}: {title}", kind=family, encoder=source, against=f"{family}_base")
            if family in ("mdm", "pooled"):
                # Under the base this is the baseline of the other studies, and shares its runs.
                settings = FROZEN if family == "mdm" else (*FROZEN, *POOLED)
                arm = replace(arm, kind="mdm", settings=settings, encoder=None if source == BASE else source)
            arms[f"{family}_{name}"] = arm
    return arms


def better(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """Claims that an arm is better on each of the four figures."""
    claims = {
        "fid": "lower FID",
        "r_precision_3": "higher R-precision",
        "attributes": "attribute accuracy",
        "minimal_pairs": "minimal pairs",
    }
    return tuple(Claim(f"{what}: {text}", metric, arm, than) for metric, text in claims.items())


def curves(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """Claims about two arms, each at its own guidance, and about their curves."""
    return (
        Claim(f"{what}: lower FID", "fid", arm, than),
        Claim(f"{what}: higher R@3", "r_precision_3", arm, than),
        Claim(f"{what}: higher R@3 at the same FID", "r_precision_3", arm, than, along="precision"),
        Claim(f"{what}: the area between the curves", "fid", arm, than, along="area"),
    )


def sooner(what: str, arm: str, than: str) -> tuple[Claim, ...]:
    """The claim of Fig. 1, "approximately 4x faster convergence", for both of its metrics."""
    return tuple(
        Claim(f"{what}: the reference's best {name} in a quarter of its steps", metric, arm, than, share=0.25)
        for metric, name in (("fid", "FID"), ("r_precision_3", "R-precision"))
    )
