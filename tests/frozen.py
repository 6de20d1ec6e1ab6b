"""Imported last by the server of `tests/processes.py`: its processes leave what it loaded out of garbage collection."""

import gc

gc.collect()
gc.freeze()
