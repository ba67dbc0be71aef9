"""`python -m fxq.reproduce FOLDER` runs a failed pass again."""

from fxq.compiler.reproducer import main

if __name__ == "__main__":
    main()
