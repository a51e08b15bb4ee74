"""The protocol's version, counted apart from the package's. docs/protocol.md has its history."""

PROTOCOL_VERSION = 3
"""First element of every message; a peer that speaks another version is refused by name."""
