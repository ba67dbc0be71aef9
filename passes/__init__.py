"""The rewrites, one a file, and what a pass is (`base`)."""
