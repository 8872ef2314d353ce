"""Layers: tensors in, tensors out. Nothing here knows of paths, logging, ranks or run configurations."""
