"""Patterns of reasoning in what models wrote: traces of runs and benches, judged by chat models, and counted."""
