"""The command line: results to stdout, progress to stderr."""
