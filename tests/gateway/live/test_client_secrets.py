import pytest

from gateway.errors import BadRequest, Unavailable
from gateway.live.client_secret_requests import SecretRequest, answer, parse_request
from gateway.live.client_secrets import ClientSecrets
from gateway.live.realtime_session import SessionConfig, Transcription

SESSION = SessionConfig(Transcription("model"))


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parsed(body: bytes, *, is_flat: bool = False) -> SecretRequest:
    return parse_request(body, default_model="model", is_flat=is_flat)


def test_a_secret_is_valid_until_it_expires_as_often_as_it_is_used() -> None:
    clock = ManualClock()
    secrets = ClientSecrets(clock)
    value = secrets.create("owner", SESSION, 10)

    found = [secrets.find(value), secrets.find(value)]
    clock.now = 109.9
    found.append(secrets.find(value))
    clock.now = 110.0

    assert [each.owner for each in found if each is not None] == ["owner"] * 3
    assert secrets.find(value) is None


def test_secrets_differ_and_others_are_not_known() -> None:
    secrets = ClientSecrets(ManualClock())
    first, second = (secrets.create(None, SESSION, 10) for _ in range(2))

    assert first != second
    assert first.startswith("ek_")
    assert len(first) > 40
    for other in (None, "", "ek_", first[:-1], f"{first}x", first.removeprefix("ek_"), "ek_\ud800"):
        assert secrets.find(other) is None


def test_no_more_are_made_than_can_be_kept_until_some_have_expired() -> None:
    clock = ManualClock()
    secrets = ClientSecrets(clock, most=2)
    secrets.create(None, SESSION, 10)
    secrets.create(None, SESSION, 20)

    with pytest.raises(Unavailable) as refused:
        secrets.create(None, SESSION, 10)
    clock.now = 110.0
    assert secrets.find(secrets.create(None, SESSION, 10))
    assert refused.value.code == "queue_full"


def test_values_are_not_shown() -> None:
    secrets = ClientSecrets(ManualClock())
    value = secrets.create(None, SESSION, 10)

    assert value not in repr(vars(secrets))


@pytest.mark.parametrize("body", [b"", b"  ", b"{}", b'{"session": null, "expires_after": null}'])
def test_a_request_without_wishes_gets_what_is_usual(body: bytes) -> None:
    assert parsed(body) == SecretRequest(SESSION, 600)


def test_session_and_time_can_be_set() -> None:
    body = (
        b'{"expires_after": {"anchor": "created_at", "seconds": 7200}, "session": {"type": '
        b'"transcription", "audio": {"input": {"transcription": {"language": "de"}}}}}'
    )
    asked = parsed(body)
    told = answer(asked, value="ek_1", expires_at=5, session_id="sess_1", is_flat=False)

    assert asked.seconds == 7200
    assert (told["value"], told["expires_at"]) == ("ek_1", 5)
    assert isinstance(told["session"], dict)
    assert told["session"]["type"] == "transcription"
    assert told["session"]["audio"]["input"]["transcription"]["language"] == "de"


def test_the_beta_has_session_and_secret_in_one() -> None:
    asked = parsed(b'{"input_audio_format": "g711_alaw"}', is_flat=True)
    told = answer(asked, value="ek_1", expires_at=5, session_id="sess_1", is_flat=True)

    assert told["input_audio_format"] == "g711_alaw"
    assert told["id"] == "sess_1"
    assert told["client_secret"] == {"value": "ek_1", "expires_at": 5}


@pytest.mark.parametrize(
    ("body", "is_flat", "param"),
    [
        (b"[]", False, None),
        (b"{", False, None),
        (b"\xff", False, None),
        (b'{"expires_after": {"seconds": 9}}', False, "expires_after.seconds"),
        (b'{"expires_after": {"seconds": 7201}}', False, "expires_after.seconds"),
        (b'{"expires_after": {"anchor": "now"}}', False, "expires_after.anchor"),
        (b'{"expires_after": 5}', False, "expires_after"),
        (b'{"session": 5}', False, "session"),
        (b'{"session": {"turn_detection": 5}}', False, "session.turn_detection"),
        (b'{"input_audio_format": "mp3"}', True, "input_audio_format"),
    ],
)
def test_what_cannot_be_used_is_named(body: bytes, is_flat: bool, param: str | None) -> None:
    with pytest.raises(BadRequest) as refused:
        parsed(body, is_flat=is_flat)

    assert refused.value.param == param
    assert param is None or refused.value.message.startswith(param)
