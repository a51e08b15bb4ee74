"""Keeps out of this process what its promise of 30 MB cannot carry and its work does not need.

OpenSSL (asyncio does without it by itself, hashlib falls back to Python's own digests), uvicorn's
command line, and logging's configuration files. Saves 6 MB; figures in docs/benchmarks.md.
"""

import importlib
import importlib.util
import sys
import types


def leave_out_tls() -> bool:
    """Make asyncio, hashlib and uvicorn load without OpenSSL; call before importing any of them.

    Afterwards `import ssl` fails in this process as on a Python built without it. Changes nothing
    and returns False where OpenSSL is loaded already, or where this Python needs it for SHA-256.
    """
    if _has_openssl() or not _has_own_digests():
        return False
    _forbid("ssl", "_hashlib")
    importlib.import_module("asyncio")
    package = _seed_package("uvicorn")
    config = _import_among_stand_ins("uvicorn.config")
    _forbid("ssl")
    package.__dict__["Config"] = config.Config  # what uvicorn's own modules take from the package
    return True


def _has_openssl() -> bool:
    return "asyncio" in sys.modules or "_ssl" in sys.modules or "_hashlib" in sys.modules


def _has_own_digests() -> bool:
    # _sha2 since Python 3.12, _sha256 before; distributions may build Python without them.
    return any(importlib.util.find_spec(name) is not None for name in ("_sha2", "_sha256"))


def _forbid(*names: str) -> None:
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]  # documented: import then fails


def _seed_package(name: str) -> types.ModuleType:
    """Put an unexecuted package in place, so that its submodules load without its __init__."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is a dependency of this package"
    sys.modules[name] = importlib.util.module_from_spec(spec)
    return sys.modules[name]


def _import_among_stand_ins(name: str) -> types.ModuleType:
    """Import a module while those it names but will not use here are replaced by empty ones.

    Of these, uvicorn.config reads only two of OpenSSL's constants and the name of a class, and only
    while it is imported: this server configures neither TLS nor logging through it.
    """
    stand_ins: dict[str, dict[str, object]] = {
        "ssl": {"PROTOCOL_TLS_SERVER": 17, "CERT_NONE": 0},
        "logging.config": {},
        "configparser": {"RawConfigParser": object},
    }
    absent = [module for module in stand_ins if sys.modules.get(module) is None]
    for module in absent:
        sys.modules[module] = types.ModuleType(module)
        vars(sys.modules[module]).update(stand_ins[module])
    try:
        return importlib.import_module(name)
    finally:
        for module in absent:
            del sys.modules[module]
