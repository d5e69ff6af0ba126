#!/usr/bin/env bash
# Measures spiral on one GPU and prints one JSON object; progress goes to stderr. Under ten minutes, without a network.
#
#   perf/gpu.sh > gpu.json        one GPU of 80 GB, such as an H100, with the figures of Qwen3's 0.6B and 4B shapes
#   perf/gpu.sh --tiny            the same lines on a CPU with tiny shapes, which says only that they run
#
# Needs spiral and its plug-ins installed (make setup, or pip install -e . -e plugins/games -e plugins/models and the
# other plug-ins) with a torch for CUDA, and peft for the adapter. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
# The parts of a step have tensors of many sizes; without this the allocator may hold most of the memory in pieces.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
default=python3
if [ -x .venv/bin/python ]; then default=.venv/bin/python; fi
exec "${PYTHON:-$default}" -m perf.gpu "$@"
