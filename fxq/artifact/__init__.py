"""`.fxq` files: a graph over an allow-list, integer weights, and a manifest. Nothing is code."""
