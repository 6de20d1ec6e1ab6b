"""Try an installed wheel as a new user would, without a network: `python smoke.py [--light]`, in any folder.

--light leaves out everything that needs torch, for interpreters for which torch is not at hand.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

PROMPT = "a person waves twice with the left hand"
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
LIMIT = 300  # seconds for one command


def command(name: str, *arguments: str) -> str:
    """Run a command that the wheel installed; its output."""
    done = subprocess.run(
        [str(Path(sysconfig.get_path("scripts")) / name), *arguments], capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        sys.exit(f"error: {name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def check_installation() -> None:
    """The packages come from the environment, compile under this Python, and their commands print their help."""
    site = Path(sysconfig.get_path("purelib"))
    for name in ("adaclip", "adaclip_integrations", "adaqf_train"):
        spec = importlib.util.find_spec(name)
        if spec is None or not Path(spec.origin).is_relative_to(site):
            sys.exit(f"error: {name} is not installed in {site}.")
        if not compileall.compile_dir(site / name, quiet=1, force=True):
            sys.exit(f"error: {name} does not compile under Python {platform.python_version()}.")
    for name in ("adaclip", "adaqf"):
        command(name, "--help")
    for verb in ("train", "sample", "evaluate", "convert", "study"):
        command("adaqf", verb, "--help")


def small_base(folder: Path) -> Path:
    """Write a CLIP text encoder of a few thousand parameters with random weights."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    words = CLIPTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], model_max_length=77)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "projection_dim": 6, "num_hidden_layers": 2}
    special = {"bos_token_id": len(entries) - 2, "eos_token_id": len(entries) - 1, "pad_token_id": len(entries) - 1}
    config = CLIPTextConfig(vocab_size=len(entries), num_attention_heads=2, **sizes, **special)
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def check_encoder() -> None:
    """An adapter is created, saved, loaded and used, in Python and by the command."""
    import numpy as np

    from adaclip import AdaCLIP

    encoder = AdaCLIP.from_base(str(small_base(Path("base"))), rank=2, alpha=2)
    vectors = encoder.encode([PROMPT, "a person bows"])
    command("adaclip-run", "--help")
    encoder.save_pretrained("adapter")
    assert np.allclose(AdaCLIP.from_pretrained("adapter").encode([PROMPT, "a person bows"]), vectors, atol=1e-5)
    command("adaclip", "encode", "adapter", PROMPT, "--out", "vectors.npy")
    assert np.load("vectors.npy").shape == (1, 6)


def check_motions() -> None:
    """A procedural motion is converted to features and back, and written in each format that needs no extra."""
    import numpy as np

    from adaqf_train.motion.features import encode
    from adaqf_train.procedural import generate

    clip = next(generate(1, seed=0))
    assert encode(clip.joints.astype(np.float64)).shape == (len(clip.joints) - 1, 263)
    np.save("joints.npy", clip.joints)
    for suffix in ("bvh", "glb", "html", "png"):
        command("adaqf", "convert", "joints.npy", f"motion.{suffix}")
        assert Path(f"motion.{suffix}").stat().st_size > 1000


def check_packaged_models() -> None:
    """The models in the wheel give vectors, a page with a motion, and scores."""
    from adaclip import AdaCLIP

    assert AdaCLIP.from_pretrained("adaclip-pocket").encode([PROMPT]).shape[0] == 1
    command("adaclip", "encode", "adaclip-pocket", PROMPT, "--out", "pocket.npy")
    command("adaqf", "sample", PROMPT, "--out", "sampled.html")
    assert Path("sampled.html").stat().st_size > 1000
    Path("motions").mkdir()
    command("adaqf", "sample", PROMPT, "--out", "motions/waves.npy")
    command("adaqf", "evaluate", "motions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--light", action="store_true")
    light = parser.parse_args().light
    os.environ.update(NO_NETWORK)
    checks = (
        [check_installation] if light else [check_installation, check_encoder, check_motions, check_packaged_models]
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for check in checks:
            start = time.perf_counter()
            check()
            print(f"{check.__name__}: {time.perf_counter() - start:.1f} s")
        os.chdir("/")
    shown = ("adaclip", *(() if light else ("torch", "transformers", "peft")), "numpy", "tyro")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in shown)
    print(f"passed: Python {platform.python_version()}, {versions}{' (without torch)' if light else ''}")


if __name__ == "__main__":
    main()
