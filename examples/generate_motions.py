"""Prompts into motions, and motions onto a page: `python examples/generate_motions.py runs/demo/adaqf motions.html`"""

import sys
from pathlib import Path

from adaqf_train.models.generator import MotionGenerator
from adaqf_train.viewing.page import Scene, Take, write_page

PROMPTS = ["a person walks forward slowly", "a person waves with the right hand twice", "someone bows, then jumps"]


def main() -> None:
    model, page = Path(sys.argv[1]), Path(sys.argv[2])
    generator = MotionGenerator.from_pretrained(model)
    motions = generator.generate(PROMPTS, seconds=4.0, seed=0)  # joints (80, 22, 3) in metres, 20 frames a second
    scenes = [Scene(prompt, (Take(model.name, joints),)) for prompt, joints in zip(PROMPTS, motions, strict=True)]
    print(write_page(page, scenes, title="Generated motions", fps=generator.skeleton.fps))


if __name__ == "__main__":
    main()
