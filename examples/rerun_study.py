"""Reruns the smallest study of the paper, Table 8's retrieval, on procedural motions.

`python examples/rerun_study.py runs/retrieval` takes a few minutes on two cores. Options after the folder are those of
`adaqf study`: --seeds 3, --set extractors.steps=800, …
"""

import sys
from pathlib import Path

from adaqf_train.cli import main as run
from adaqf_train.data.prepare.procedural import prepare_procedural

STUDY = "retrieval"
CLIPS = {"clips": 3000, "seed": 0}  # as in the demo


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out, options = Path(sys.argv[1]), sys.argv[2:]
    data = out / "data"
    if not data.is_dir():
        prepare_procedural(data, **CLIPS)
    places = {"--data": f"procedural={data}", "--out": out / "runs", "--results": out / "results", "--pages": out}
    code = run(["study", STUDY, *(str(part) for option in places.items() for part in option), *options])
    if code == 0:
        print((out / f"{STUDY}.md").read_text(encoding="utf-8"))
    return code


if __name__ == "__main__":
    sys.exit(main())
