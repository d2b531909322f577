"""The version of the package. It is not repeated elsewhere."""

__version__ = "0.1.0.dev0"
