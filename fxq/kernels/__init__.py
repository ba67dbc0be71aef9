"""Calls into int8 kernels, and how their arguments are laid out."""
