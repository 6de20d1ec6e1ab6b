"""A finished run's adapter on its way to the Hub: the details of its card come from the run's report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaclip import AdaCLIP
from adaclip.card import CardDetails
from adaclip.files import read_json
from adaqf_train.evaluation.columns import COLUMNS
from adaqf_train.runs.folder import read_config
from adaqf_train.errors import RunError

ADAPTER, REPORT, MARKDOWN, LOOK = "adaclip", "report.json", "report.md", "hub"
DATA = {"humanml3d": "HumanML3D", "kit": "KIT-ML", "demo": "procedural-motions"}
TERMS = (
    "HumanML3D is made of AMASS and HumanAct12: AMASS's licence allows non-commercial scientific research only. KIT-ML "
    "is under the terms of the KIT Whole-Body Human Motion Database, Bandai Namco's motion data under CC BY-NC 4.0. "
    "What was learnt from such data is under their terms as well, whatever the licence of the code."
)


@dataclass(frozen=True)
class Finished:
    """A run that was trained and evaluated."""

    encoder: AdaCLIP
    metrics: Mapping[str, float]  # of the AdaQF row, by the names of `COLUMNS`
    manifest: Mapping[str, object]
    report: str  # Markdown

    @classmethod
    def read(cls, run: Path) -> Finished:
        """RunError when there is no adapter or no report of it yet."""
        config, _ = read_config(run)
        if not (run / ADAPTER).is_dir():
            raise RunError(f"{run / ADAPTER}: there is no adapter. Train one: adaqf train --arm adaqf --out {run} …")
        again = f"Run: adaqf evaluate --run {run}"
        for path in (run / REPORT, run / MARKDOWN):
            if not path.is_file():
                raise RunError(f"{path}: missing, and a card must say what the adapter can do. {again}")
        manifest = read_json(run / REPORT)
        try:
            rows, recipe = manifest.pop("rows"), manifest["config"]["recipe"]
            means = {metric: rows["adaqf"][metric]["mean"] for metric in COLUMNS if metric in rows["adaqf"]}
            metrics = {metric: round(mean, 4) for metric, mean in means.items() if mean is not None}
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{run / REPORT}: does not tell of this run's adapter ({error}). {again}") from error
        if recipe != config.recipe:
            raise RunError(f"{run / REPORT}: of the recipe {recipe}, this run's is {config.recipe}. {again}")
        report = (run / MARKDOWN).read_text(encoding="utf-8")
        return cls(AdaCLIP.from_pretrained(run / ADAPTER), metrics, manifest, report)

    def details(self, licence: str | None, data: Sequence[str]) -> CardDetails:
        """What the card says. licence: the Hub's name of the adapter's; data: names of what it was trained on."""
        recipe = self.manifest["config"]["recipe"]
        names = tuple(data) or ((DATA[recipe],) if recipe in DATA else ())
        procedural = recipe == "demo" and not data
        terms = "The motions it learnt from are procedural: no one's terms apply to them." if procedural else TERMS
        manifest = json.dumps(_without_places(self.manifest), indent=1, sort_keys=True)
        more = (
            f"{self.report.replace('# Report', '## Results', 1).strip()}\n\n## How it was made\n\nSamples, seeds, "
            "seconds of each stage, versions and the whole configuration:\n\n<details><summary>manifest</summary>\n\n"
            f"```json\n{manifest}\n```\n\n</details>"
        )
        return CardDetails(licence, names, self.metrics, more, terms)


def _without_places(content: object) -> object:
    """The same with the last part alone of each path: where files lie on a machine is nobody's business."""
    if isinstance(content, Mapping):
        return {key: _without_places(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_places(value) for value in content]
    if isinstance(content, str) and Path(content).is_absolute():
        return Path(content).name
    return content
