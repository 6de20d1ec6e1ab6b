"""The metrics that studies show: their titles, and which direction is better."""

from __future__ import annotations

# In the order of the columns: title, and whether smaller is better (None: neither).
METRICS: dict[str, tuple[str, bool | None]] = {
    "fid": ("FID ↓", True),
    "fid_infinity": ("FID∞ ↓", True),
    "r_precision_1": ("R@1 ↑", False),
    "r_precision_3": ("R@3 ↑", False),
    "delta": ("R@3 − GT", None),
    "r_precision_3_extractors": ("R@3 by extractors", None),
    "gap": ("extractors' gap ↓", True),
    "joints_fid": ("FID, joints ↓", True),
    "joints_r_precision_3": ("R@3, joints ↑", False),
    "gap_joints": ("extractors' gap, joints ↓", True),
    "attributes": ("attributes ↑", False),
    "minimal_pairs": ("minimal pairs ↑", False),
    "mm_dist": ("MM-dist ↓", True),
    "skating": ("skating ↓", True),
    "skating_kimodo": ("skating, Kimodo ↓", True),
    "slide_mm": ("slide ↓", True),
    "jitter_mm": ("jitter", None),
    "jerk": ("jerk ↓", True),
    "unseen_fid": ("FID, unseen combinations ↓", True),
    "unseen_r_precision_3": ("R@3, unseen combinations ↑", False),
    "guidance": ("guidance", None),
}
GENERATION = tuple(METRICS)
_KEPT = {
    "kept_spearman": "general prompts, Spearman ↑",
    "kept_cka": "general prompts, CKA ↑",
    "kept_cosine": "general prompts, cosine to the base's ↑",
    "still_r3": "still poses R@3 by the base's pose tower ↑",
    "still_r3_own": "still poses R@3 by a pose tower of its own ↑",
}
FORGETTING = tuple(_KEPT)
_FOUND = {
    f"{where}_{way}_{figure}": f"{arrow} {title}, {pool}"
    for where, pool in (("pools", "pools of 32"), ("whole", "whole split"))
    for way, arrow in (("text_to_motion", "T→M"), ("motion_to_text", "M→T"))
    for figure, title in (*((f"r{k}", f"R@{k} ↑") for k in (1, 2, 3, 5, 10)), ("median_rank", "median rank ↓"))
}
RETRIEVAL = tuple(_FOUND)
# Improvements are chosen by the means of the last points of a curve on val.
VAL, LAST = "val_", 3
ON_VAL = tuple(
    f"{VAL}{name}"
    for name in ("fid", "r_precision_3", "gap", "attributes", "minimal_pairs", "mm_dist", "skating", "jerk")
)
METRICS |= {name: METRICS[name.removeprefix(VAL)] for name in ON_VAL}
METRICS |= {name: (title, False) for name, title in _KEPT.items()}
METRICS |= {name: (title, name.endswith("median_rank")) for name, title in _FOUND.items()}
