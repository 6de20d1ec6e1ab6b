"""Seconds per step of MoMask's own training loop, with vanilla CLIP or AdaCLIP as ADACLIP_WEIGHTS selects.

cd CHECKOUT; python -m adaclip_integrations momask . --weights ADAPTER
ADACLIP_WEIGHTS=vanilla adaclip-run --compat …/benchmarks/momask_loop.py train_t2m_transformer.py …
adaclip-run --compat …/benchmarks/momask_loop.py train_t2m_transformer.py …

The script runs until its trainer has made $STEPS updates, without evaluations. It prints the medians of whole steps and
of their text encoding. $OPENAI_CLIP names a file that `clip.load` reads instead of downloading one.
"""

from __future__ import annotations

import os
import runpy
import statistics
import sys
import time

FIRST = 2  # steps of the warm-up


def main() -> None:
    sys.path.insert(0, os.getcwd())
    sys.argv = sys.argv[1:]
    if os.environ.get("OPENAI_CLIP"):
        import clip

        load = clip.load
        clip.load = lambda name, **options: load(os.environ["OPENAI_CLIP"], **options)
    from models.mask_transformer import transformer, transformer_trainer

    steps, texts = [], []
    count = int(os.environ.get("STEPS", "12")) + FIRST

    def timed(cls: type, name: str, seconds: list[float]) -> None:
        original = getattr(cls, name)

        def call(*args, **kwargs):
            start = time.perf_counter()
            result = original(*args, **kwargs)
            seconds.append(time.perf_counter() - start)
            if len(steps) >= count:
                report(steps[FIRST:], texts[-len(steps) + FIRST :])
                os._exit(0)  # past the loop's own evaluation, workers and all
            return result

        setattr(cls, name, call)

    for kind in ("Mask", "Residual"):
        timed(getattr(transformer, f"{kind}Transformer"), "encode_text", texts)
        timed(getattr(transformer_trainer, f"{kind}TransformerTrainer"), "update", steps)
    for name in ("evaluation_mask_transformer", "evaluation_res_transformer"):
        setattr(transformer_trainer, name, lambda *_, **__: (100, 100, 0, 0, 0, 100, None))
    runpy.run_path(sys.argv[0], run_name="__main__")


def report(steps: list[float], texts: list[float]) -> None:
    step, text = statistics.median(steps), statistics.median(texts)
    print(f"{len(steps)} steps: {step:.3f} s a step ({1 / step:.2f} steps/s), of which text {text:.3f} s", flush=True)


if __name__ == "__main__":
    main()
