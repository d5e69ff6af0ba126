"""For every test: one thread, since tiny tensors are many times slower with more on a busy machine, and no network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
