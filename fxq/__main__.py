"""`python -m fxq` is the `fxq` command."""

from fxq.cli import main

main()
