"""Where size and time go, what quantization changed, and what to do about it."""
