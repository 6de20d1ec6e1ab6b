"""stub"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Push:
    """x"""

    def __call__(self) -> None: ...
