"""The gateway's settings, read once at start from environment variables."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from protocol.environment import (
    BadSettings,
    byte_count,
    choice,
    comma_list,
    default_data_dir,
    flag,
    folder,
    number,
    one_line,
    setting,
    whole_number,
)
from protocol.languages import NAMES, parse_language
from protocol.sockets import link_setting

FOREVER = 10 * 365 * 86400.0
"""Upper end of the ranges of timeouts."""

WITHOUT_EFFECT = frozenset(
    (
        "DUAL_MODEL",
        "FAST_MODEL_ID",
        "GATEWAY_MODE",
        "QUANTIZE",
        "SSE_CHUNK_SECONDS",
        "SSE_OVERLAP_SECONDS",
        "WORKER_HOST",
        "WORKER_PORT",
        "WS_FLUSH_SILENCE_MS",
    )
)
"""Variables jaaacki/qwen3-asr reads and this server does not."""


@dataclass(frozen=True)
class ApiKey:
    """One key a caller may present. The key itself is not kept, so it cannot be logged."""

    digest: bytes = field(repr=False)
    """SHA-256 of the key."""

    @classmethod
    def of(cls, key: str) -> "ApiKey":
        return cls(hashlib.sha256(key.encode("utf-8")).digest())

    @property
    def key_id(self) -> str:
        """Names the key in logs and stored state: the first eight hex digits of its SHA-256."""
        return self.digest.hex()[:8]


def _api_keys(text: str) -> tuple[ApiKey, ...]:
    keys = comma_list(text)
    if not keys:
        raise ValueError("names no key: unset it to serve without keys")
    if not all(re.fullmatch(r"[!-~]+", key) for key in keys):
        raise ValueError("keys are of printable ASCII characters without spaces")
    return tuple(ApiKey.of(key) for key in keys)


def _api_keys_file(text: str) -> tuple[ApiKey, ...]:
    try:
        lines = Path(text).expanduser().read_text("utf-8").splitlines()
    except (OSError, RuntimeError, UnicodeError):
        raise ValueError("must name a readable text file with one key a line") from None
    return _api_keys(",".join(line for line in lines if not line.lstrip().startswith("#")))


@dataclass(frozen=True, slots=True)
class Secret:
    """A key of ours for another server; its repr does not tell it."""

    value: str = field(repr=False)


def _secret(text: str) -> Secret:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("is of printable ASCII characters without spaces")
    return Secret(text)


def _web_address(text: str) -> str:
    fault = "must be an address such as https://llm.example.com/v1, without user, query or #"
    try:
        parts = urlsplit(text)
        is_fit = parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        raise ValueError(fault) from None
    if parts.scheme not in ("http", "https") or not is_fit or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(fault)
    if parts.query or parts.fragment:
        raise ValueError(fault)
    return text.rstrip("/")


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.rstrip("/").lower() for origin in comma_list(text))
    for origin in origins:
        if origin not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError("must be origins such as https://asr.example.com, or *")
    return origins


def _ignored_languages(text: str) -> tuple[str, ...]:
    if text == "*":
        return NAMES
    named = [parse_language(word) for word in comma_list(text)]
    if None in named:
        raise ValueError("must be codes or names of languages, such as en, or *")
    return tuple(name for name in named if name is not None)


@dataclass(frozen=True)
class Settings:
    """What an operator can set; docs/configuration.md has a line for each variable."""

    host: str = setting("HOST", "127.0.0.1", one_line)
    """Address to listen on: 0.0.0.0 or :: for every interface."""
    port: int = setting("PORT", 8000, whole_number(0, 65535))
    """0 lets the system choose; the log names the port."""
    model_id: str = setting("MODEL_ID", "Qwen/Qwen3-ASR-1.7B", one_line)
    """A model hub id, a folder, or `embedded`."""
    data_dir: Path = setting("DATA_DIR", default_data_dir, folder)
    """Holds the spool of uploads, the sockets to workers, state and caches."""
    idle_timeout: float = setting("IDLE_TIMEOUT", 300.0, number(0, FOREVER))
    """Seconds without work after which the engine process ends; 0 keeps it for ever."""
    request_timeout: float = setting("REQUEST_TIMEOUT", 300.0, number(1, FOREVER))
    """Seconds a request may stand still; its length is not limited."""
    worker_start_timeout: float = setting("WORKER_START_TIMEOUT", 120.0, number(1, FOREVER))
    """Seconds a request may wait while an engine starts."""
    max_upload_bytes: int = setting("MAX_UPLOAD_BYTES", 2 * 1024**3, byte_count)
    """Larger recordings are refused with 413."""
    early_start_bytes: int = setting("EARLY_START_BYTES", 256 * 1024, whole_number(0, 2**40))
    """So much of a recording is there when work on it begins; 0 waits until all of it is."""
    max_waiting_requests: int = setting("MAX_WAITING_REQUESTS", 256, whole_number(1, 100_000))
    """More are refused with 503."""
    max_live_sessions: int = setting("MAX_LIVE_SESSIONS", 64, whole_number(1, 100_000))
    """More WebSockets are refused with 503."""
    live_buffer_bytes: int = setting("LIVE_BUFFER_BYTES", 64 * 1024**2, byte_count)
    """Audio kept of a live session that no engine has acknowledged; then its client must wait."""
    live_buffers_bytes: int = setting("LIVE_BUFFERS_BYTES", 1024**3, byte_count)
    """Of all of them; then each has its share."""
    live_history_seconds: float = setting("LIVE_HISTORY_SECONDS", 600.0, number(0, FOREVER))
    """How long the events of a call that ended can still be read."""
    realtime_ignore_language: tuple[str, ...] = setting(
        "REALTIME_IGNORE_LANGUAGE", (), _ignored_languages
    )
    """English names of languages that /v1/realtime detects all the same where a client names one:
    some clients always send the same."""
    ws_server_vad: bool = setting("ASR_USE_SERVER_VAD", True, flag)
    """Whether /ws/transcribe ends utterances by itself where a client does not say."""
    ws_buffer_bytes: int = setting("WS_BUFFER_SIZE", 14_400, whole_number(3200, 640_000))
    """Audio between two partials of /ws/transcribe, in bytes at 16 kHz: 450 ms."""
    ws_window_max: float = setting("WS_WINDOW_MAX_S", 6.0, number(0.1, FOREVER))
    """Seconds that /ws/transcribe tells its clients as window_max_s. Nothing is cut there."""
    max_connections: int = setting("MAX_CONNECTIONS", 2000, whole_number(1, 100_000))
    """More open connections are answered 503."""
    header_timeout: float = setting("HEADER_TIMEOUT", 10.0, number(0.05, FOREVER))
    """Seconds a client may take to send a request's headers."""
    body_timeout: float = setting("BODY_TIMEOUT", 30.0, number(0.05, FOREVER))
    """Seconds an upload may stand still."""
    keep_alive_timeout: float = setting("KEEP_ALIVE_TIMEOUT", 75.0, number(0.05, FOREVER))
    """Seconds an idle connection is kept. Longer than the 60 s common among load balancers, which
    otherwise send requests into a closing connection."""
    keepalive_seconds: float = setting("KEEPALIVE_SECONDS", 0.0, number(0, FOREVER))
    """Seconds after which a long JSON answer sends a space to keep proxies awake; 0 never does."""
    shutdown_timeout: float = setting("SHUTDOWN_TIMEOUT", 20.0, number(0, FOREVER))
    """Seconds that requests in flight get at SIGTERM."""
    api_keys: tuple[ApiKey, ...] = setting("API_KEYS", (), _api_keys)
    """Keys callers may present; none at all leaves the server open."""
    api_keys_file: tuple[ApiKey, ...] = setting("API_KEYS_FILE", (), _api_keys_file)
    """Further keys, from a file with one a line; # begins a comment line."""
    allowed_origins: tuple[str, ...] = setting("ALLOWED_ORIGINS", (), _origins)
    """Origins whose web pages may use the server; * for any."""
    openai_base_url: str | None = setting("OPENAI_BASE_URL", None, _web_address)
    """Where the language model for translations is served, up to /chat/completions."""
    openai_api_key: Secret | None = setting("OPENAI_API_KEY", None, _secret)
    """Key for that language model, where it asks for one."""
    translate_model: str | None = setting("TRANSLATE_MODEL", None, one_line)
    """Name of that language model."""
    subtitle_max_duration: float = setting("SUBTITLE_MAX_DURATION", 7.0, number(0.5, 60))
    """Seconds a subtitle of /v1/audio/subtitles is on screen at most."""
    subtitle_min_duration: float = setting("SUBTITLE_MIN_DURATION", 0.833, number(0.1, 10))
    """And at least, where the next one leaves the time."""
    subtitle_min_gap: float = setting("SUBTITLE_MIN_GAP", 0.083, number(0, 1))
    """Seconds between two of them."""
    subtitle_pause_threshold: float = setting("SUBTITLE_PAUSE_THRESHOLD", 0.5, number(0.1, 60))
    """Seconds of silence that end one."""
    worker_link: str = setting("WORKER_LINK", "ipc", link_setting)
    """`ipc` (sockets in DATA_DIR), or tcp://HOST:PORT for workers on other hosts."""
    worker_link_keys: Path | None = setting("WORKER_LINK_KEYS", None, folder)
    """Folder with the keys of a tcp link."""
    log_level: str = setting("LOG_LEVEL", "info", choice("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        if self.subtitle_min_duration > self.subtitle_max_duration:
            raise BadSettings("SUBTITLE_MIN_DURATION: must not exceed SUBTITLE_MAX_DURATION")

    @property
    def accepted_keys(self) -> tuple[ApiKey, ...]:
        """Every key that is accepted, wherever it was set."""
        return self.api_keys + self.api_keys_file

    @property
    def served_model(self) -> str:
        """The model's public name: of a folder only its own name, never the path to it."""
        if self.model_id.startswith(("/", ".", "~")) or os.path.isdir(self.model_id):
            return Path(os.path.expanduser(self.model_id)).absolute().name or "model"
        return self.model_id


def without_effect(environment: Mapping[str, str]) -> list[str]:
    """Variables that are set for jaaacki/qwen3-asr but do nothing here."""
    return sorted(name for name in WITHOUT_EFFECT if environment.get(name, "").strip())
