"""Quantization-aware training: an ordinary module that computes what the compiled one will."""
