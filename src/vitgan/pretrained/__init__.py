"""Generators by name: a model folder, a run, a bundled model, a Hub repository."""
