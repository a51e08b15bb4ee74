"""Units of numbers in messages."""

from typing import NewType

Nats = NewType("Nats", float)
"""Natural logarithm of a probability: 0 or less."""
