"""A package that adds one of everything to fxq, from outside."""
