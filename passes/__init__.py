"""The rewrites, one per file, and what a pass is (`base`)."""
