"""Benchmarks of questions: which are asked, how, of which models, and what the graded replies come to."""
