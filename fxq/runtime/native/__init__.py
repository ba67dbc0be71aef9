"""Programs: parts of a LOWERED graph as one call each into the native kernels."""
