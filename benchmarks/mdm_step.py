"""Seconds per step of MDM's own training loop, and of its text encoding, with vanilla CLIP or AdaCLIP.

cd CHECKOUT; python -m adaclip_integrations mdm . --weights ADAPTER
R="adaclip-run --compat …/benchmarks/mdm_step.py --save_dir save/cost --overwrite --dataset humanml …"
ADACLIP_WEIGHTS=vanilla $R           # vanilla, in half precision as MDM has it
ADACLIP_WEIGHTS=vanilla FP32=1 $R    # vanilla in single precision
ADACLIP_CACHE_MB=0 $R                # AdaCLIP, every prompt is new
ADACLIP_WARM=1 $R                    # AdaCLIP, every prompt is remembered

The arguments are those of `train.train_mdm`. The loop runs until it has made $STEPS steps (8). It prints the medians.
$OPENAI_CLIP names a file that `clip.load` reads instead of downloading one. On a GPU the times include a
synchronisation after each part.
"""

from __future__ import annotations

import importlib
import os
import runpy
import statistics
import sys
import time

FIRST = 2  # steps of the warm-up


def main() -> None:
    """Wrap MDM's step and its text encoding by clocks, and run its training."""
    sys.path.insert(0, os.getcwd())
    if os.environ.get("OPENAI_CLIP"):
        clip = importlib.import_module("clip")
        load = clip.load
        clip.load = lambda name, **options: load(os.environ["OPENAI_CLIP"], **options)
    mdm = importlib.import_module("model.mdm")
    loop = importlib.import_module("train.training_loop").TrainLoop
    if os.environ.get("FP32"):
        freeze = mdm.MDM.load_and_freeze_clip
        mdm.MDM.load_and_freeze_clip = lambda *args: freeze(*args).float()
    steps: list[float] = []
    texts: list[float] = []
    count = int(os.environ.get("STEPS", "8")) + FIRST
    encode, step = mdm.MDM.clip_encode_text, loop.run_step

    def timed_encode(model, prompts):
        if os.environ.get("ADACLIP_WARM"):
            encode(model, prompts)  # outside of the clocks: now the prompts are remembered
            texts_before.append(clock())
        start = clock()
        found = encode(model, prompts)
        texts.append(clock() - start)
        return found

    texts_before: list[float] = []

    def timed_step(*args, **kwargs):
        texts_before.clear()
        start = clock()
        result = step(*args, **kwargs)
        end = clock()
        warming = texts_before[0] - start if texts_before else 0.0
        steps.append(end - start - warming)
        if len(steps) >= count:
            report(steps[FIRST:], texts[-len(steps) + FIRST :])
            os._exit(0)  # past the loop's own evaluation, workers and all
        return result

    mdm.MDM.clip_encode_text, loop.run_step = timed_encode, timed_step
    sys.argv[0] = "train.train_mdm"
    runpy.run_module("train.train_mdm", run_name="__main__", alter_sys=True)


def clock() -> float:
    """Seconds, after everything that a GPU still computes."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def report(steps: list[float], texts: list[float]) -> None:
    """Print the medians."""
    step, text = statistics.median(steps), statistics.median(texts)
    print(f"{len(steps)} steps: {step:.3f} s a step, of which text {text:.3f} s", flush=True)


if __name__ == "__main__":
    main()
