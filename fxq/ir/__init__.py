"""The graph: operators, facts, stages, and the one way to edit it."""
