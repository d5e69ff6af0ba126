"""HTML pages of runs and tournaments, each one file that asks the network for nothing."""
