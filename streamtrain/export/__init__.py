"""A model for other runtimes: what is published to ONNX, or to one C header."""
