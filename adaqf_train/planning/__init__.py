"""What a run will cost, before it is started: parameters, work, memory and hours."""

from adaqf_train.planning.plan import Plan, make

__all__ = ["Plan", "make"]
