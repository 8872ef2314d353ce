"""Formats that people have images in: each source gives items in a fixed order, and nothing else."""
