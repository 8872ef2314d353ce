"""Formats that people have images in: each source gives images in a fixed order, and nothing else."""
