"""Questions about a graph: what runs where, in which format, and why."""
