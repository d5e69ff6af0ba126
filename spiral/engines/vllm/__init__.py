"""The vLLM engine: requests in, completions out, and the learner's weights in a live engine."""
