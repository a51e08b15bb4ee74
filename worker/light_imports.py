"""Keeps out of the supervisor what its promise of 18 MB cannot carry.

pyzmq, dataclasses and logging import modules for functions the supervisor never calls (pickled
messages, signatures of documentless classes, random ports). They get a stand-in that becomes the
real module at its first use, so whatever needs it still works. Saves 2 MB.
"""

import importlib
import os
import sys
import types

UNUSED = ("inspect", "ipaddress", "json", "ntpath", "pickle", "platform", "random", "traceback")


class _Deferred(types.ModuleType):
    """A module that is imported when something is first taken from it."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = importlib.import_module(self.__name__)
        self.__dict__.update(real.__dict__)
        return getattr(real, name)


def import_lightly() -> None:
    """Import pyzmq without what it does not need here; call before anything else is imported.

    Modules that are there already stay as they are.
    """
    for name in UNUSED:
        if name not in sys.modules:
            sys.modules[name] = _Deferred(name)
    # The two things pyzmq asks of them while it is imported: the default of an argument, and
    # whether this is PyPy.
    if isinstance(sys.modules["pickle"], _Deferred):
        sys.modules["pickle"].__dict__["DEFAULT_PROTOCOL"] = 4
    backend = os.environ.get("PYZMQ_BACKEND")
    os.environ["PYZMQ_BACKEND"] = backend or "cython"
    try:
        importlib.import_module("zmq")
    finally:
        if backend is None:
            del os.environ["PYZMQ_BACKEND"]
