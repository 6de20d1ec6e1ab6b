"""Reruns the smallest study of the paper, Table 8's retrieval, on procedural motions.

`python examples/rerun_study.py runs/retrieval`, a few minutes on two cores. What follows the folder goes to
`adaqf study` as it is: --seeds 3, --set extractors.steps=800, …
"""

import sys
from pathlib import Path

from adaqf_train.cli import main as run
from adaqf_train.data.prepare import prepare_procedural

STUDY = "retrieval"
CLIPS = {"clips": 3000, "seed": 0}  # the demo's


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out, options = Path(sys.argv[1]), sys.argv[2:]
    data = out / "data"
    if not data.is_dir():
        prepare_procedural(data, **CLIPS)
    command = ["study", STUDY, "--data", f"procedural={data}", "--out", str(out / "runs"), "--results", str(out)]
    code = run([*command, *options])
    if code == 0:
        print((out / f"{STUDY}.md").read_text(encoding="utf-8"))
    return code


if __name__ == "__main__":
    sys.exit(main())
