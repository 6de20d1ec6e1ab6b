"""Generate motions from prompts and show them on a page: `generate_motions.py runs/demo/adaqf motions.html`."""

import sys
from pathlib import Path

from adaqf_train import MotionGenerator
from adaqf_train.render.page import Scene, Take, write_page

PROMPTS = ["a person walks forward slowly", "a person waves with the right hand twice"]
LONGER = "a person walks forward | a person turns left | someone bows"  # one motion with a prompt for each segment


def main() -> None:
    model, page = Path(sys.argv[1]), Path(sys.argv[2])
    generator = MotionGenerator.from_pretrained(model)  # a folder, or owner/name of the Hub
    # Joints (T, 22, 3) in metres, 20 frames a second: two samples of each prompt, then a motion of 3 × 3 seconds.
    motions = generator.generate(PROMPTS, seconds=4.0, num_samples=2, seed=0)
    (longer,) = generator.generate(LONGER, seconds=3.0, scheduler="dpm++", steps=10)
    # The first motion again: its legs stay, its arms follow another prompt.
    (edited,) = generator.edit(motions[0], "a person claps while walking", keep="lower_body")

    scenes = [Scene(p, (Take("0", motions[2 * i]), Take("1", motions[2 * i + 1]))) for i, p in enumerate(PROMPTS)]
    scenes += [Scene(LONGER, (Take(model.name, longer),)), Scene("the first, clapping", (Take("edited", edited),))]
    print(write_page(page, scenes, title="Generated motions", fps=generator.skeleton.fps))


if __name__ == "__main__":
    main()
