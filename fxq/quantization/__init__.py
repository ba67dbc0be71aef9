"""Numbers: formats, statistics and calibrators; no graph."""
