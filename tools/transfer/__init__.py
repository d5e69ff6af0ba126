"""Compares what play and other training do to tasks that they never saw: python -m tools.transfer --seeds 0,1,2"""
