"""The clock that acting code is given, so that tests give it another."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that only grow."""

monotonic: Clock = time.monotonic
