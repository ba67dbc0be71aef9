"""REFERENCE written for other runtimes: ONNX."""
