"""Handing a trained generator on: ONNX, a model folder with its card, a static web page, a local server."""
