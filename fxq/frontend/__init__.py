"""From a user's model to a graph that fxq can rewrite."""
