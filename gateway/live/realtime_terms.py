"""What the handshake settles for a whole realtime session. Pure."""

from dataclasses import dataclass, replace

from gateway.live.handshake import Handshake
from gateway.live.messages import clean
from gateway.live.query import call_id_of, channels_of, is_on, sample_rate_of
from gateway.live.realtime_session import SessionConfig
from gateway.live.realtime_values import MAX_NAME
from protocol.live import Encoding

BETA = "realtime=v1"


@dataclass(frozen=True, slots=True)
class Terms:
    """See above."""

    session_id: str
    call_id: str
    channels: int
    default_model: str
    pinned_rate: int | None
    """Rate of the client's PCM, whatever it says."""
    is_beta: bool
    has_extensions: bool
    ignored_languages: tuple[str, ...]

    def applied_to(self, config: SessionConfig) -> SessionConfig:
        """The configuration that holds where a client wants this one."""
        if self.pinned_rate is None or config.encoding is not Encoding.PCM16:
            return config
        return replace(config, sample_rate=self.pinned_rate)


def terms_of(handshake: Handshake) -> Terms:
    """Raises BadRequest where a parameter of the query cannot be used."""
    query = handshake.query
    return Terms(
        session_id=handshake.session_id,
        call_id=call_id_of(query),
        channels=channels_of(query),
        default_model=clean(query.get("model", ""))[:MAX_NAME] or handshake.served_model,
        pinned_rate=sample_rate_of(query, 0) or None,
        is_beta=BETA in handshake.headers.get("openai-beta", ""),
        has_extensions=is_on(query, "extensions"),
        ignored_languages=handshake.settings.realtime_ignore_language,
    )
