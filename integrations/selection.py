"""Select the text encoder of a codebase with edits: the environment's, else the one named in the edit.

ADACLIP_WEIGHTS   folder or Hub id of an adapter; "vanilla" or empty: the codebase's own CLIP
ADACLIP_BASE      base to use instead of the one that the adapter records
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP

WEIGHTS = "ADACLIP_WEIGHTS"
BASE = "ADACLIP_BASE"
VANILLA = "vanilla"


def selected(default: str) -> str | None:
    """Return the adapter to run with, or None for the codebase's own CLIP. The edit names the default."""
    weights = os.environ.get(WEIGHTS, default).strip()
    return None if weights in ("", VANILLA) else weights


@functools.cache
def encoder(weights: str) -> AdaCLIP:
    """Load an adapter once in a process and report it on stderr. Raises AdaCLIPError when that fails."""
    from adaclip.model import AdaCLIP

    adaclip = AdaCLIP.from_pretrained(weights, base=os.environ.get(BASE) or None)
    print(f"adaclip: text is encoded by AdaCLIP {weights} (base {adaclip.base})", file=sys.stderr, flush=True)
    return adaclip
