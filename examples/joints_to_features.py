"""Convert joint positions to HumanML3D's 263 features and back, on a procedural motion; needs no data and no model."""

import numpy as np

from adaqf_train.motion.features import SLICES, canonicalise, decode, encode
from adaqf_train.procedural import generate


def main() -> None:
    clip = next(generate(1, seed=4))
    print(clip.captions[0])
    joints = clip.joints.astype(np.float64)  # (T, 22, 3), metres, Y up
    features = encode(joints)  # (T - 1, 263)
    error = np.abs(decode(features) - canonicalise(joints)[:-1]).max()
    contact = features[:, SLICES.contacts].mean(axis=0)
    print(f"{joints.shape} -> {features.shape}; decoded within {error:.1e} m")
    print("on the floor: " + ", ".join(f"{c:.0%}" for c in contact), "(left ankle, left toe, right ankle, right toe)")


if __name__ == "__main__":
    main()
