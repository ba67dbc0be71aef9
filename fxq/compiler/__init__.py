"""The pipeline, the manager that runs it, and what a build leaves behind."""
