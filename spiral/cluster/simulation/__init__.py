"""Clusters that are not there: the scheduling of a run with a virtual clock."""
