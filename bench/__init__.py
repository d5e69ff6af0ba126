"""Speed and memory as ratios of things measured side by side; `python -m bench [NAME...]` prints JSON lines."""
