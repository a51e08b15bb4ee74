"""What the gateway's process loads, looked at in processes of their own."""

import json
import subprocess
import sys

LOADED = """
import json, sys
from gateway.light_imports import leave_out_tls
left_out = leave_out_tls()
import gateway.main
print(json.dumps([left_out, sorted(name for name, m in sys.modules.items() if m is not None)]))
"""

FOREIGN = {
    "_ssl",
    "_hashlib",
    "click",
    "gateway.live",
    "gateway.outbound.child",
    "gateway.translation",
    "gateway.websockets",
    "httptools",
    "httpx2",
    "logging.config",
    "numpy",
    "psutil",
    "pydantic",
    "sqlite3",
    "ssl",
    "torch",
    "uvicorn.main",
    "uvloop",
    "worker",
}


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_gateway_loads_nothing_that_its_memory_cannot_carry() -> None:
    left_out, loaded = json.loads(run(LOADED))

    assert left_out
    assert FOREIGN & set(loaded) == set()
    assert {"asyncio", "uvicorn.config", "zmq"} <= set(loaded)


def test_digests_are_right_without_openssl() -> None:
    program = """
from gateway.light_imports import leave_out_tls
leave_out_tls()
import hashlib, hmac, secrets, sys
print(hashlib.sha256(b"abc").hexdigest(), hmac.new(b"k", b"m", "sha256").hexdigest()[:8])
print(sys.modules["_hashlib"], len(secrets.token_hex(16)))
"""

    # FIPS 180-2, appendix B.1
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert run(program).splitlines()[0].split()[0] == abc
    assert run(program).splitlines()[1] == "None 32"


def test_missing_ssl_is_told_honestly() -> None:
    program = """
from gateway.light_imports import leave_out_tls
leave_out_tls()
try:
    import ssl
except ImportError:
    print("no ssl")
import logging.config, configparser
print(logging.config.dictConfig.__name__, configparser.RawConfigParser.__name__)
"""

    assert run(program) == "no ssl\ndictConfig RawConfigParser\n"


def test_nothing_changes_where_openssl_is_loaded_already() -> None:
    program = """
import ssl, asyncio
from gateway.light_imports import leave_out_tls
print(leave_out_tls())
import gateway.main, hashlib, uvicorn
print(ssl.OPENSSL_VERSION[:7], uvicorn.Config.__name__)
"""

    assert run(program) == "False\nOpenSSL Config\n"
