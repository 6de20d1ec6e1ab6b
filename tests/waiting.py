"""A context that refuses every read of a tensor's values: on a GPU each would wait for all queued work."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from adaqf_train import philox

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique2, aten.equal}
HOST = {Tensor.tolist, Tensor.numpy, Tensor.item, Tensor.cpu, Tensor.__bool__, Tensor.__int__, Tensor.__float__}


class Waited(AssertionError):
    """Something read values of a tensor."""


class _NoReads(TorchDispatchMode):
    """Refuses operations whose result's size or type depends on values, in the forward and the backward pass."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        by_mask = packet in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        to_host = (
            packet in (aten._to_copy, aten.copy_)
            and str((kwargs or {}).get("device", "")) == "cpu"
            and args[0].device.type != "cpu"
        )
        if packet in READS or by_mask or to_host:
            raise Waited(str(func))
        return func(*args, **kwargs or {})


class _NoHostCalls(TorchFunctionMode):
    """Refuses methods that copy to the host; some of them reach no dispatcher on a CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in HOST:
            raise Waited(func.__name__)
        return func(*args, **kwargs or {})


@contextmanager
def no_waiting():
    with _NoHostCalls(), _NoReads():
        yield


def drawn_on_device(seed: int, items: Tensor, count: int, stream: int, step: int) -> tuple[Tensor, ...]:
    """Philox as it is computed on a GPU; on a CPU numpy is faster, and nothing waits."""
    words = philox.words(philox.signed(seed), stream, items, step, -(-count // philox.WORDS))[:, :count]
    return tuple(((words >> shift & 0xFFFFFF).float() + 0.5) * 2.0**-24 for shift in (8, 40))
