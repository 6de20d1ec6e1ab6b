"""Which text encoder a patched codebase runs with: the environment's, or the one named in the edit.

ADACLIP_WEIGHTS   folder or Hub id of an adapter; "vanilla" or empty: the codebase's own CLIP
ADACLIP_BASE      base to use instead of the one the adapter records
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

from adaclip.fingerprint import note_saves

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP

WEIGHTS = "ADACLIP_WEIGHTS"
BASE = "ADACLIP_BASE"
VANILLA = "vanilla"


def selected(default: str) -> str | None:
    """The adapter to run with; None for the codebase's own CLIP. default: what the edit names."""
    weights = os.environ.get(WEIGHTS, default).strip()
    return None if weights in ("", VANILLA) else weights


@functools.cache
def encoder(weights: str) -> AdaCLIP:
    """An adapter, loaded once in a process; says so on stderr. AdaCLIPError when it cannot be loaded."""
    from adaclip.model import AdaCLIP

    adaclip = AdaCLIP.from_pretrained(weights, base=os.environ.get(BASE) or None)
    note_saves()
    print(f"adaclip: text is encoded by AdaCLIP {weights} (base {adaclip.base})", file=sys.stderr, flush=True)
    return adaclip
