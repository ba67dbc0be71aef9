"""`python -m fxq.reproduce FOLDER` runs a failed pass again."""

from fxq.cli.reproduce import main, run

__all__ = ["run"]

if __name__ == "__main__":
    main()
