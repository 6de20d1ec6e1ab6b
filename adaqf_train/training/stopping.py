"""Stopping between two steps when the process receives SIGTERM."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from adaqf_train.errors import lost_process

if TYPE_CHECKING:
    from accelerate import Accelerator


class StopSignal:
    """While it is entered, SIGTERM is noted instead of ending the process; `received` is then true.

    Launchers forward no signals, so the training processes themselves must receive the signal. Outside of the main
    thread, where Python can set no handler, nothing is ever received.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: object = None

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A launcher sends SIGTERM right after another process was lost. The error line is to appear before the end.
        if self._before is not None and not lost_process(error):
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self, accelerator: Accelerator, *, meeting: bool) -> bool:
        """Whether to stop after this step. Several processes exchange this at a meeting, and stop only there.

        meeting: the same on all of them.
        """
        if accelerator.num_processes == 1 or not meeting:
            return self.received and accelerator.num_processes == 1
        import torch

        stop = torch.tensor(float(self.received), device=accelerator.device)
        return bool(accelerator.reduce(stop, reduction="sum") > 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
