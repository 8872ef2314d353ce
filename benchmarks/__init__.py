"""Benchmarks: `make bench` prints rates of this machine, as ratios where a ratio says more."""
