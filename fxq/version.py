"""The version of fxq: of the package, of its files and of its reports."""

__version__ = "0.1.0"
