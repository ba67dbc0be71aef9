"""What data decides before a model is quantized: ranges, rounding and biases, block by block."""
