import re
import subprocess
import sys
from typing import Any

import pytest

from gateway.settings import Settings
from protocol.environment import variables
from tests.packaging.project import REPOSITORY, compose, image_environment
from worker.settings import WorkerSettings

FIXED_IN_THE_IMAGES = {"HOST", "PORT", "DATA_DIR"}
# Not understood by the Compose of NAS systems in use, or makes the file need others.
TOO_NEW_OR_NOT_ALONE = {"version", "include", "extends", "env_file", "gpus", "develop"}
WORKERS = ("worker", "worker-cpu")


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = compose()["services"]
    return services


def _text(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def test_the_file_follows_the_compose_specification() -> None:
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]

    check = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert check.returncode == 0, check.stdout + check.stderr


def test_without_a_profile_only_the_gateway_starts_and_asks_for_no_gpu() -> None:
    started = {name: one for name, one in _services().items() if "profiles" not in one}

    assert list(started) == ["gateway"]
    assert "deploy" not in started["gateway"]
    assert "depends_on" not in started["gateway"]


def test_only_the_gpu_profile_reserves_a_gpu() -> None:
    services = _services()

    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert services["worker"]["profiles"] == ["gpu"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]
    assert services["worker-cpu"]["profiles"] == ["cpu"]
    assert "deploy" not in services["worker-cpu"]


def test_every_variable_has_a_default() -> None:
    used = re.findall(r"\$\{[^}]*\}", _text("compose.yaml"))

    assert used
    assert [one for one in used if ":-" not in one] == []


def test_one_file_is_enough_and_an_older_compose_reads_it() -> None:
    keys = {key for one in _services().values() for key in one} | compose().keys()

    assert keys & TOO_NEW_OR_NOT_ALONE == set()
    assert "start_interval" not in _text("compose.yaml")


@pytest.mark.parametrize("name", ["gateway", *WORKERS])
def test_each_container_has_the_least_rights_and_stops_in_order(name: str) -> None:
    service = _services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "privileged" not in service


def test_all_containers_run_as_one_user_on_one_volume() -> None:
    services = _services().values()

    assert {one["user"] for one in services} == {"${PUID:-1000}:${PGID:-1000}"}
    assert {tuple(one["volumes"]) for one in services} == {("${DATA_VOLUME:-data}:/data",)}
    assert list(compose()["volumes"]) == ["data"]


def test_containers_are_given_longer_to_stop_than_requests_in_flight_get() -> None:
    for service in _services().values():
        assert float(service["stop_grace_period"].removesuffix("s")) > Settings.shutdown_timeout


def test_the_gateway_gets_every_setting_of_its_own() -> None:
    passed = _services()["gateway"]["environment"].keys()

    assert set(variables(Settings)) - passed == FIXED_IN_THE_IMAGES
    assert passed - set(variables(Settings)) == {"TZ"}


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_gets_every_setting_of_its_own_and_no_key_of_a_caller(name: str) -> None:
    passed = _services()[name]["environment"].keys()

    assert set(variables(WorkerSettings)) - passed == {"DATA_DIR"}
    assert {one for one in passed if one.startswith("API_KEYS")} == set()


def test_the_published_port_is_the_one_the_image_listens_on() -> None:
    port = image_environment("Dockerfile.gateway")["PORT"]

    assert _services()["gateway"]["ports"] == [
        "${BIND_ADDRESS:-0.0.0.0}:${PORT:-8000}:" + port,
    ]


def test_health_is_asked_of_the_server_itself() -> None:
    assert _services()["gateway"]["healthcheck"]["test"] == ["CMD", "qwen3-asr", "healthcheck"]


@pytest.mark.parametrize("name", ["gateway", *WORKERS])
def test_what_a_service_is_built_from_exists_and_takes_its_arguments(name: str) -> None:
    build = _services()[name]["build"]

    dockerfile = _text(build["dockerfile"])
    declared = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    assert build.get("args", {}).keys() - declared == set()


def test_the_example_environment_names_only_what_the_file_uses() -> None:
    lines = _text(".env.example").splitlines()
    named = {match[1] for line in lines if (match := re.match(r"#?(\w+)=", line))}

    interpolated = set(re.findall(r"\$\{(\w+)", _text("compose.yaml")))
    passed = {key for one in _services().values() for key in one["environment"]}
    assert named - interpolated - passed == {"COMPOSE_PROFILES"}
    assert interpolated - named - {"OMP_NUM_THREADS"} == set()


def test_the_example_environment_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^#(\w+)=(.*)$", _text(".env.example"), re.MULTILINE))
    defaults = re.findall(r"\$\{(\w+):-([^}]*)\}", _text("compose.yaml"))

    # The CPU worker has an image of its own.
    differing = {name: value for name, value in defaults if shown.get(name, value) != value}
    assert differing == {"WORKER_IMAGE": "qwen3-asr-server-worker-cpu"}
    assert shown["MODEL_ID"] == Settings.model_id
    assert float(shown["IDLE_TIMEOUT"]) == Settings.idle_timeout
