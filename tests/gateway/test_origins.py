import pytest

from gateway.origins import is_origin_allowed


def allowed(origin: str, host: str, *listed: str, has_keys: bool = False) -> bool:
    return is_origin_allowed(origin, host, allowed=listed, has_keys=has_keys)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://192.168.1.20:8000", "192.168.1.20:8000"),
        ("http://nas:8000", "NAS:8000"),
        ("http://nas.local", "nas.local:80"),
        ("https://nas.home.arpa", "nas.home.arpa"),
        ("https://nas.home.arpa", "nas.home.arpa:443"),
    ],
)
def test_own_pages_on_private_names_may_use_an_open_server(origin: str, host: str) -> None:
    assert allowed(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "localhost:8000"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://localhost.evil.example:8000", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", "localhost:8000"),
        ("http://", ""),
        ("chrome-extension://abcdef", "localhost:8000"),
    ],
)
def test_foreign_pages_may_not(origin: str, host: str) -> None:
    assert not allowed(origin, host)
    assert not allowed(origin, host, has_keys=True)


def test_name_that_public_dns_could_point_here_is_not_trusted_on_an_open_server() -> None:
    """DNS rebinding: page and request both carry the attacker's own name."""
    assert not allowed("http://evil.example:8000", "evil.example:8000")


def test_with_keys_the_servers_own_public_name_is_trusted() -> None:
    assert allowed("https://asr.example.com", "asr.example.com", has_keys=True)


def test_listed_origins_may_use_the_server() -> None:
    assert allowed("https://App.example", "asr.example.com", "https://app.example")
    assert allowed("null", "asr.example.com", "null")
    assert allowed("https://anything.example", "asr.example.com", "*")
    assert not allowed("https://other.example", "asr.example.com", "https://app.example")
