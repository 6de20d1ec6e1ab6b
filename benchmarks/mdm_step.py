"""Seconds per step of MDM's own training, and of its text encoding, with vanilla CLIP and with AdaCLIP in turn.

cd CHECKOUT       # without edits
ADAPTER=… adaclip-run --compat …/benchmarks/mdm_step.py --save_dir save/cost --overwrite --dataset humanml …

The arguments are those of `train.train_mdm`. One training alternates the encoders from step to step, so that a change
of the machine's load affects all: vanilla in half precision (as MDM has it) and in single precision, AdaCLIP with new
and with remembered prompts. After a warm-up of each it makes $ROUNDS rounds (5), and prints medians, their ratio to
vanilla's, and the smallest and largest step. On a CPU it counts the process's CPU time, which other processes
lengthen little; on a GPU, wall-clock time with a synchronisation after each part. $OPENAI_CLIP names a file that
`clip.load` reads instead of downloading one.
"""

from __future__ import annotations

import copy
import importlib
import os
import runpy
import statistics
import sys
import time

import torch
from adaclip_integrations.frozen import CACHE, FrozenEncoder

from adaclip import AdaCLIP

VARIANTS = (
    "vanilla, half precision",
    "vanilla, single precision",
    "AdaCLIP, new prompts",
    "AdaCLIP, remembered prompts",
)


def main() -> None:
    """Wrap MDM's step and its text encoding by clocks, and run its training."""
    sys.path.insert(0, os.getcwd())
    clip = importlib.import_module("clip")
    if os.environ.get("OPENAI_CLIP"):
        load = clip.load
        clip.load = lambda name, **options: load(os.environ["OPENAI_CLIP"], **options)
    mdm = importlib.import_module("model.mdm")
    loop = importlib.import_module("train.training_loop").TrainLoop
    adaclip = AdaCLIP.from_pretrained(os.environ["ADAPTER"], base=os.environ.get("ADACLIP_BASE"))
    encode, step = mdm.MDM.clip_encode_text, loop.run_step
    count = (int(os.environ.get("ROUNDS", "5")) + 1) * len(VARIANTS)
    encoders: dict[str, torch.nn.Module] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    text = [0.0, 0.0]  # seconds of this step's encoding, and of what came before it to remember the prompts
    made = [0]

    def timed_encode(model, prompts):
        start = clock()
        if model.clip_model is encoders.get(VARIANTS[3]):
            encode(model, prompts)
        begun = clock()
        found = encode(model, prompts)
        text[:] = clock() - begun, begun - start
        return found

    def timed_step(train, *args, **kwargs):
        if not encoders:
            encoders.update(zip(VARIANTS, made_encoders(train.model.clip_model, adaclip), strict=True))
        name = VARIANTS[made[0] % len(VARIANTS)]
        train.model.clip_model = encoders[name]
        mdm.clip.tokenize = getattr(encoders[name], "tokenize", tokenize)
        start = clock()
        step(train, *args, **kwargs)
        times[name].append((clock() - start - text[1], text[0]))
        made[0] += 1
        if made[0] >= count:
            report(times)
            os._exit(0)  # past the loop's own evaluation, workers and all

    tokenize = clip.tokenize
    mdm.MDM.clip_encode_text, loop.run_step = timed_encode, timed_step
    sys.argv[0] = "train.train_mdm"
    runpy.run_module("train.train_mdm", run_name="__main__", alter_sys=True)


def made_encoders(vanilla: torch.nn.Module, adaclip: AdaCLIP) -> list[torch.nn.Module]:
    """Return an encoder for each variant, on the device of MDM's own."""
    device = next(vanilla.parameters()).device
    os.environ[CACHE] = "0"
    forgetting = FrozenEncoder(adaclip).to(device)
    del os.environ[CACHE]
    return [vanilla, copy.deepcopy(vanilla).float(), forgetting, FrozenEncoder(adaclip).to(device)]


def clock() -> float:
    """Seconds: of this process's CPU time, or after everything that a GPU still computes."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def report(times: dict[str, list[tuple[float, float]]]) -> None:
    """Print a row of the page's table for each variant."""
    print(f"{torch.get_num_threads()} threads, {len(times[VARIANTS[0]]) - 1} rounds; seconds")
    steps = {name: [step for step, _ in rows[1:]] for name, rows in times.items()}
    reference = statistics.median(steps[VARIANTS[0]])
    for name, rows in times.items():
        step, text = statistics.median(steps[name]), statistics.median(seconds for _, seconds in rows[1:])
        spread = f"{min(steps[name]):.2f}–{max(steps[name]):.2f}"
        print(f"| {name} | {text:.2f} | {step:.2f} ({spread}) | {step / reference:.2f} |", flush=True)


if __name__ == "__main__":
    main()
