from pathlib import Path

import pytest

from gateway.settings import ApiKey, Settings, without_effect
from protocol.environment import BadSettings, read_settings
from protocol.languages import NAMES


def test_defaults_serve_this_machine_alone_with_the_large_model() -> None:
    settings = read_settings(Settings, {})

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model_id == "Qwen/Qwen3-ASR-1.7B"
    assert settings.idle_timeout == 300
    assert settings.max_upload_bytes == 2 * 1024**3
    assert settings.accepted_keys == ()
    assert settings.data_dir.name == "qwen3-asr"


def test_data_folder_follows_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert read_settings(Settings, {}).data_dir == tmp_path / "qwen3-asr"

    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_settings(Settings, {}).data_dir == tmp_path / ".local" / "share" / "qwen3-asr"


def test_all_bad_values_are_told_at_once() -> None:
    with pytest.raises(BadSettings) as caught:
        read_settings(
            Settings,
            {
                "PORT": "eighty",
                "DATA_DIR": "~nobody-of-this-name/asr",
                "MAX_UPLOAD_BYTES": "2T",
                "WORKER_LINK": "foo",
                "WORKER_LINK_KEYS": "/keys\udcff",
                "LOG_LEVEL": "loud",
            },
        )

    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "PORT",
        "DATA_DIR",
        "MAX_UPLOAD_BYTES",
        "WORKER_LINK",
        "WORKER_LINK_KEYS",
        "LOG_LEVEL",
    ]


def test_user_without_a_home_folder_must_name_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(BadSettings, match="DATA_DIR: must name a folder"):
        read_settings(Settings, {})
    assert read_settings(Settings, {"DATA_DIR": str(tmp_path)}).data_dir == tmp_path


def test_api_keys_come_from_variable_and_file_and_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# phones\nkey-three\n\n  key-four\n")

    settings = read_settings(
        Settings, {"API_KEYS": "key-one, key-two,", "API_KEYS_FILE": str(file)}
    )

    assert settings.accepted_keys == tuple(
        ApiKey.of(f"key-{number}") for number in ("one", "two", "three", "four")
    )
    assert "key-" not in repr(settings)


def test_key_id_is_the_beginning_of_its_digest() -> None:
    # printf secret | sha256sum
    assert ApiKey.of("secret").key_id == "2bb80d53"


@pytest.mark.parametrize(
    "environment",
    [
        {"API_KEYS": ","},
        {"API_KEYS": "with space"},
        {"API_KEYS": "ümlaut"},
        {"API_KEYS_FILE": "/nonexistent/keys"},
        {"API_KEYS_FILE": "~nobody-of-this-name/keys"},
    ],
)
def test_keys_that_cannot_work_stop_the_start(environment: dict[str, str]) -> None:
    with pytest.raises(BadSettings):
        read_settings(Settings, environment)


def test_key_file_without_keys_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n")

    with pytest.raises(BadSettings):
        read_settings(Settings, {"API_KEYS_FILE": str(file)})


def test_model_folder_is_served_under_its_own_name_only(tmp_path: Path) -> None:
    for model_id, served in (
        ("Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-0.6B"),
        ("embedded", "embedded"),
        (str(tmp_path / "fine-tuned"), "fine-tuned"),
        ("./models/mine/", "mine"),
        ("~/models/mine", "mine"),
        ("~nobody-of-this-name/mine", "mine"),
        ("/", "model"),
    ):
        assert read_settings(Settings, {"MODEL_ID": model_id}).served_model == served


def test_origins_are_normalised_and_checked() -> None:
    settings = read_settings(Settings, {"ALLOWED_ORIGINS": "https://A.example/, null, *"})
    assert settings.allowed_origins == ("https://a.example", "null", "*")

    with pytest.raises(BadSettings):
        read_settings(Settings, {"ALLOWED_ORIGINS": "a.example"})


def test_variables_of_the_predecessor_that_do_nothing_here_are_found() -> None:
    environment = {"QUANTIZE": "int8", "WS_BUFFER_SIZE": "", "PORT": "8000", "DUAL_MODEL": "true"}

    assert without_effect(environment) == ["DUAL_MODEL", "QUANTIZE"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1"),
        ("https://llm.example.com", "https://llm.example.com"),
        ("HTTPS://[::1]:8443/openai/v1", "HTTPS://[::1]:8443/openai/v1"),
    ],
)
def test_language_models_address_is_taken_without_its_last_slash(text: str, address: str) -> None:
    assert read_settings(Settings, {"OPENAI_BASE_URL": text}).openai_base_url == address


@pytest.mark.parametrize(
    "text",
    [
        "llm.example.com/v1",
        "ftp://llm.example.com",
        "https://user:secret@llm.example.com",
        "https://llm.example.com/v1?key=secret",
        "https://llm.example.com/#v1",
        "https://",
        "https://[::1/v1",
        "https://llm.example.com:http/v1",
        "https://llm.example.com/ v1",
    ],
)
def test_what_is_no_address_of_a_language_model_stops_the_start(text: str) -> None:
    with pytest.raises(BadSettings, match="OPENAI_BASE_URL: must be an address") as caught:
        read_settings(Settings, {"OPENAI_BASE_URL": text})

    assert "secret" not in str(caught.value)


def test_language_models_key_is_kept_out_of_sight() -> None:
    settings = read_settings(Settings, {"OPENAI_API_KEY": "sk-secret"})

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.value == "sk-secret"
    assert "sk-secret" not in repr(settings)
    with pytest.raises(BadSettings, match="OPENAI_API_KEY: is of printable ASCII") as caught:
        read_settings(Settings, {"OPENAI_API_KEY": "sk secret"})
    assert "secret" not in str(caught.value)


def test_subtitle_times_that_contradict_each_other_stop_the_start() -> None:
    environment = {"SUBTITLE_MIN_DURATION": "5", "SUBTITLE_MAX_DURATION": "3"}

    with pytest.raises(BadSettings, match="SUBTITLE_MIN_DURATION"):
        read_settings(Settings, environment)


@pytest.mark.parametrize(
    ("text", "languages"),
    [("en", ("English",)), ("en, German", ("English", "German")), ("*", NAMES)],
)
def test_languages_that_clients_always_send_can_be_ignored(
    text: str, languages: tuple[str, ...]
) -> None:
    settings = read_settings(Settings, {"REALTIME_IGNORE_LANGUAGE": text})

    assert settings.realtime_ignore_language == languages


@pytest.mark.parametrize("text", ["tlh", "en,auto"])
def test_what_is_no_language_to_ignore_stops_the_start(text: str) -> None:
    with pytest.raises(BadSettings, match="REALTIME_IGNORE_LANGUAGE"):
        read_settings(Settings, {"REALTIME_IGNORE_LANGUAGE": text})


def test_the_predecessors_variables_of_live_audio_are_read() -> None:
    settings = read_settings(
        Settings, {"ASR_USE_SERVER_VAD": "false", "WS_BUFFER_SIZE": "6400", "WS_WINDOW_MAX_S": "8"}
    )

    assert not settings.ws_server_vad
    assert (settings.ws_buffer_bytes, settings.ws_window_max) == (6400, 8.0)
