"""Speed and memory as ratios of things measured side by side; `python -m perf [NAME...]` prints JSON lines."""
