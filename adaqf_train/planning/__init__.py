"""What a run will cost, before it is started: parameters, work, memory and hours."""

from adaqf_train.planning.making import make
from adaqf_train.planning.plan import Plan

__all__ = ["Plan", "make"]
