"""The version of this package, read once, without the weight of importlib.metadata."""

VERSION = "0.1.0"
