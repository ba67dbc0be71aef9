"""`python -m fxq` is the `fxq` command."""

from fxq.cli.app import main

main()
