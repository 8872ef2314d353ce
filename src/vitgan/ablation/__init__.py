"""Ablations: named tables of runs that differ in one thing, trained at one budget, read in one report."""
