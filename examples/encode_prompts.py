"""Compare the similarity of prompt pairs under the base and under the adapter.

`python examples/encode_prompts.py runs/demo/adaclip`
"""

import sys

from adaclip import AdaCLIP

PAIRS = [
    ("a person walks forward slowly", "a person walks forward quickly"),
    ("a person raises the left arm", "a person raises the right arm"),
    ("a person jumps once", "a person jumps three times"),
    ("a person bows, then waves", "a person waves, then bows"),
]


def main() -> None:
    encoder = AdaCLIP.from_pretrained(sys.argv[1])
    print("  base  adapted")
    for pair in PAIRS:
        with encoder.disable_adapter():
            a, b = encoder.encode(pair, normalize=True)
        c, d = encoder.encode(pair, normalize=True)
        print(f"{a @ b:6.3f}   {c @ d:6.3f}   {pair[0]}  |  {pair[1]}")


if __name__ == "__main__":
    main()
