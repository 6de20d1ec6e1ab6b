"""What the pages say of the studies is what the files in results/ give."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from adaqf_train.cli import main
from adaqf_train.studies import page, trial
from adaqf_train.studies.arms import PAPER_WEIGHTS, SAMPLES
from adaqf_train.studies.definitions import STUDIES
from adaqf_train.studies.results import by_seed
from adaqf_train.studies.statistics import estimate
from adaqf_train.studies.tables import Results, _difference, _races
from tests.studies import published as results

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "docs" / "studies").glob("*.md"))}
SUMMARY = (CHECKOUT / "docs" / "results.md").read_text(encoding="utf-8")
BETTER = ("fid", "r_precision_3", "attributes", "minimal_pairs")
SIX = (*BETTER, "skating", "jerk")
# First words of a row of the claims: a study, an arm, the arm that is subtracted, and the metrics in their order.
DIFFERENCES = {
    "AdaQF has a lower FID": ("components", "full", "baseline", "fid"),
    "… a higher R@3": ("components", "full", "baseline", "r_precision_3"),
    "… motions match the attributes": ("components", "full", "baseline", "attributes"),
    "… motions are distinguished": ("components", "full", "baseline", "minimal_pairs"),
    "… feet skate less": ("components", "full", "baseline", "skating"),
    "With pooled text": ("components", "pooled_full", "pooled_baseline", "fid", "r_precision_3"),
    "LoRA alone": ("components", "lora", "baseline", "fid"),
    "LoRA beats full tuning": ("components", "full", "full_tuning", "fid", "r_precision_3"),
    "Frozen AdaCLIP in MDM": ("transfer", "mdm_adaclip", "mdm_base", "fid", "r_precision_3", "attributes"),
    "… in latent diffusion": ("transfer", "latent_adaclip", "latent_base", "fid", "r_precision_3", "minimal_pairs"),
    "… in masked tokens": ("transfer", "masked_tokens", "masked_base", "fid", "r_precision_3", "attributes"),
    "AdaCLIP is better than an encoder": ("encoders", "masked_tokens", "masked_moclip", *BETTER),
    "… in MDM: FID": ("encoders", "mdm_adaclip", "mdm_moclip", *BETTER),
    # Of the section about guidance.
    "FID, each at its own guidance": ("guidance", "pooled_full", "pooled_baseline", "fid"),
    "R@3, each at its own guidance": ("guidance", "pooled_full", "pooled_baseline", "r_precision_3"),
    "minimal pairs |": ("guidance", "pooled_full", "pooled_baseline", "minimal_pairs"),
    "skating (GMD)": ("guidance", "pooled_full", "pooled_baseline", "skating"),
    "jerk, distance to real": ("guidance", "pooled_full", "pooled_baseline", "jerk"),
    # Of the section about the study method.
    "From the aligned encoder, minus the baseline": ("method", "aligned", "baseline", *SIX),
    "… minus the same encoder, frozen": ("method", "aligned", "aligned_frozen", *SIX),
    "With physics, minus the baseline": ("method", "aligned_physics", "baseline", *SIX),
    "… minus the same without physics": ("method", "aligned_physics", "aligned", *SIX),
    "Feedback at half of the reconstruction's": ("method", "balanced", "aligned_physics", *SIX),
    "Text feedback up to the real motion's": ("method", "hinged", "aligned_physics", *SIX),
    "A hidden layer drawn to the extractors'": ("method", "hidden", "aligned_physics", *SIX),
    "With light physics, minus the baseline": ("method", "aligned_light", "baseline", *SIX),
    "… minus the frozen aligned encoder": ("method", "aligned_light", "aligned_frozen", *SIX),
    "… minus the same without it": ("method", "aligned_light", "aligned", *SIX),
    "… minus the baseline with the same physics": ("method", "aligned_light", "light_baseline", *SIX),
    "With light physics and half of the steps, minus": ("method", "aligned_half", "baseline", *SIX),
    "With light physics, 3,000 steps, minus": ("method", "long_light", "long_baseline", *SIX),
    "With light physics, 800 steps, minus": ("method", "aligned_light", "long_baseline", *SIX),
    "With light physics and robust extractors, minus the baseline": ("method", "robust", "baseline", *SIX),
    # Of the section about the encoder of another data set.
    "the other's in MDM": ("datasets", "pooled_other", "pooled_base", *BETTER),
    "the other's in masked tokens": ("datasets", "masked_other", "masked_base", *BETTER),
    "the other's in latent diffusion": ("datasets", "latent_other", "latent_base", *BETTER),
    "its own in MDM": ("datasets", "pooled_own", "pooled_base", *BETTER),
    "its own in masked tokens": ("datasets", "masked_own", "masked_base", *BETTER),
    "its own in latent diffusion": ("datasets", "latent_own", "latent_base", *BETTER),
    # Of the section about the method's encoder.
    "MDM, pooled text, minus the base": ("method_transfer", "pooled_adaclip", "pooled_base", *BETTER),
    "MDM, pooled text, minus MoCLIP's": ("method_transfer", "pooled_adaclip", "pooled_moclip", *BETTER),
    "masked tokens, minus the base": ("method_transfer", "masked_adaclip", "masked_base", *BETTER),
    "masked tokens, minus MoCLIP's": ("method_transfer", "masked_adaclip", "masked_moclip", *BETTER),
    "latent diffusion, minus the base": ("method_transfer", "latent_adaclip", "latent_base", *BETTER),
    "latent diffusion, minus MoCLIP's": ("method_transfer", "latent_adaclip", "latent_moclip", *BETTER),
}
SHARES = {"The baseline's best FID in": "fid", "The baseline's best R@3 in": "r_precision_3"}
METHOD = ("fid", "r_precision_3", "minimal_pairs", "gap", "skating", "jerk")
JUDGES = ("r_precision_3", "r_precision_3_extractors", "joints_r_precision_3")
WAYS = ("baseline", "full", "aligned_light")
WEIGHTS = ("fid", *JUDGES, "attributes", "minimal_pairs", "skating", "jerk")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Results], str]]:
    """{study: (its results on each data set, its page)}, made from results/ by the commands on the pages.

    Neither the motions nor the base come with the code: their fingerprints are those in the results.
    """
    folder, made = tmp_path_factory.mktemp("published"), {}
    data = {result.trial.data: result.manifest["data"] for result in results.published().values()}

    def spy(study, found, *arguments):
        made[study.name] = found
        return written(study, found, *arguments)

    written = page.write_study
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "hash_of_base", lambda base: base.name)
        patch.setattr(trial.Setup, "fingerprint", lambda self, label, split: data[label])
        patch.setattr(trial, "is_procedural", lambda folder: folder.name.startswith("procedural"))
        patch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **_: Path(path).touch())
        patch.setattr(page, "write_study", spy)
        for name, text in PAGES.items():
            command = re.search(r"```sh\nadaqf (.+)\n```", text)[1]
            command = command.replace("BASE", results.base_of(STUDIES[name]))
            words = [word.replace("=FOLDER", f"={folder / word}") for word in shlex.split(command)]
            places = ("--results", str(results.FOLDER), "--pages", str(folder), "--out", str(folder / "runs"))
            assert main([*words, "--report-only", *places]) == 0
    return {name: (made[name], (folder / f"{name}.md").read_text(encoding="utf-8")) for name in made}


def test_pages_of_studies_are_those_of_the_results(published):
    """Every page is what its own command writes; a figure that was edited, or not written again, shows as a line."""
    changed = {
        name: [pair for pair in zip_longest(text.splitlines(), published[name][1].splitlines()) if pair[0] != pair[1]]
        for name, text in PAGES.items()
    }
    assert {name: lines[:3] for name, lines in changed.items() if lines} == {}


def rows(text: str, first: str) -> Iterator[list[str]]:
    """The cells of the rows of tables that begin with these words."""
    for line in text.splitlines():
        if line.startswith(f"| {first}"):
            yield [cell.strip() for cell in line.strip("| ").split("|")]


def says(text: str, *values: float | None) -> bool:
    """Whether figures as text, such as "−.057 ± .024", are these values, rounded to its own decimals."""
    shown = re.findall(r"[+−-]?\d*\.?\d+", text)
    if len(shown) != len(values) or None in values:
        return False
    for number, value in zip(shown, values, strict=True):
        decimals = len(number.partition(".")[2])
        twice = 0.0005 if decimals < 3 else 1e-9  # rounded from a page, which rounds to three decimals
        if abs(float(number.replace("−", "-")) - value) > 0.5 * 10**-decimals + twice:
            return False
    return True


def test_says_compares_rounded_figures():
    assert says("−.057 ± .024", -0.0566, 0.0242)
    assert says("**+1.51 ± 1.05**", 1.512, 1.048)
    assert not says("−.057 ± .024", -0.0546, 0.0242)
    assert not says("−.057", -0.0566, 0.0242)
    assert not says("+.057", -0.057)


@pytest.mark.parametrize("first", DIFFERENCES)
def test_differences_in_the_summary_are_those_of_the_results(first, published):
    study, arm, than, *metrics = DIFFERENCES[first]
    (cells,) = rows(SUMMARY, first)
    labels = ("procedural", "bandai-namco") if study != "guidance" else (None, None, "procedural")
    checked = 0
    for label, cell in zip(labels, cells[1:], strict=False):
        if label in published[study][0] and cell and "not run" not in cell:
            for metric, text in zip(metrics, cell.split(", "), strict=True):
                found = _difference(published[study][0][label], arm, than, metric)
                values = (found.mean,) if found.half is None else (found.mean, found.half)
                assert says(text.partition(":")[0], *values), (text, str(found))
                checked += 1
    assert checked >= len(metrics)


@pytest.mark.parametrize("first", SHARES)
def test_shares_of_steps_in_the_summary_are_those_of_the_results(first, published):
    (cells,) = rows(SUMMARY, first)
    for label, cell in zip(("procedural", "bandai-namco"), cells[1:3], strict=True):
        races = _races(published["convergence"][0][label], "full", "baseline", SHARES[first])
        assert cell == ", ".join(map(str, races))


def test_arms_of_the_method_in_the_summary_are_those_of_the_results(published):
    found, table = (
        published["method"][0]["procedural"],
        SUMMARY.partition("**The study `method`**")[2].partition("\n### ")[0],
    )
    checked = 0
    for name, arm in STUDIES["method"].arms.items():
        for cells in rows(table, f"{arm.title.removesuffix(', pooled text')} |"):
            values = [by_seed(found[name], metric) for metric in METHOD]
            assert cells[1] == str(len(found[name]))
            for text, value in zip(cells[2:], values, strict=True):
                assert says(text, estimate(list(value.values())).mean), (arm.title, text)
            checked += 1
    assert checked >= 5


def test_weights_in_the_summary_are_those_of_the_results(published):
    found = published["weights"][0]["procedural"]
    table = SUMMARY.partition("**Larger weights exploit the extractors**")[2].partition("\n\n**")[0]
    arms = {"none": "baseline", "0.02, 0.1": "recipe"} | {f"{m}, {t}": f"m{m}_t{t}" for m, t in PAPER_WEIGHTS}
    for first, arm in arms.items():
        (cells,) = rows(table, f"{first} ")
        for text, metric in zip(cells[1:], WEIGHTS, strict=True):
            assert says(text, *by_seed(found[arm], metric).values()), (arm, metric)


def test_samples_in_the_summary_are_those_of_the_results(published):
    found = published["samples"][0]["procedural"]
    table = SUMMARY.partition("### Few training clips")[2].partition("\n### ")[0]
    for count in (*SAMPLES, "all"):
        (cells,) = rows(table, f"{count:,} |" if count != "all" else "all |")
        columns = [(metric, arm) for metric in ("fid", "r_precision_3", "unseen_fid") for arm in WAYS]
        for text, (metric, arm) in zip(cells[1:], columns, strict=True):
            assert says(text, *by_seed(found[f"{arm}_{count}"], metric).values()), (arm, count, metric)


def test_points_of_another_data_set_in_the_summary_are_those_of_the_results(published):
    table = SUMMARY.partition("### The encoder of another data set")[2].partition("\n### ")[0]
    totals = []
    for first, encoder in (("the other data set's", "other"), ("its own |", "own")):
        (cells,) = rows(table, first)
        counts = [_better_points(published["datasets"][0][label], encoder) for label in ("procedural", "bandai-namco")]
        assert cells[1:] == [f"{count} of 15" for pair in counts for count in pair]
        totals.append(tuple(map(sum, zip(*counts, strict=True))))
    assert "FID is lower at {} and R@3 higher at {} of 30 points".format(*totals[0]) in SUMMARY
    assert "Its own data set's: {} and {}".format(*totals[1]) in SUMMARY


def _better_points(found: Results, encoder: str) -> tuple[int, int]:
    """At how many guidances of all families an encoder has a lower FID, and a higher R@3, than the base."""
    lower = higher = 0
    for family in ("pooled", "masked", "latent"):
        ours, base = (found[f"{family}_{name}"][0].guidance["test"] for name in (encoder, "base"))
        for (point,), (other,) in ((a["replications"], b["replications"]) for a, b in zip(ours, base, strict=True)):
            lower += point["fid"] < other["fid"]
            higher += point["r_precision_3"] > other["r_precision_3"]
    return lower, higher
