from pathlib import Path

import pytest

from protocol.keys import generate_keys, write_keys
from protocol.sockets import LinkError
from worker.settings import WorkerSettings
from worker.start import Orders, link_keys, orders_of, parse_orders

DATA = Path("/data")


def test_orders_of_a_worker_on_the_gateways_machine() -> None:
    settings = WorkerSettings(
        model_id="embedded",
        data_dir=DATA,
        worker_id="gpu-1",
        engine_load_stall_timeout=20.0,
        engine_step_timeout=10.5,
    )

    assert orders_of(settings, with_parent=True) == Orders(
        worker_id="gpu-1",
        model_id="embedded",
        control_address="ipc:///data/run/control.sock",
        keys_folder="",
        log_level="info",
        load_stall=20.0,
        step=10.5,
        with_parent=True,
    )


@pytest.mark.parametrize("with_parent", [True, False])
def test_the_second_program_reads_the_orders_of_the_first(with_parent: bool) -> None:
    orders = orders_of(WorkerSettings(data_dir=DATA), with_parent=with_parent)

    assert parse_orders(orders.arguments()) == orders


def test_a_person_who_starts_the_second_program_is_told_what_to_run() -> None:
    with pytest.raises(ValueError, match="run qwen3-asr worker"):
        parse_orders(["--help"])


def test_a_tcp_link_needs_a_folder_with_keys(tmp_path: Path) -> None:
    link = "tcp://gateway:7000"
    with pytest.raises(LinkError, match="WORKER_LINK_KEYS must name"):
        link_keys(WorkerSettings(worker_link=link))
    with pytest.raises(LinkError, match=r"worker\.key cannot be read"):
        link_keys(WorkerSettings(worker_link=link, worker_link_keys=tmp_path))


def test_a_tcp_link_with_keys_is_ordered_by_their_folder(tmp_path: Path) -> None:
    write_keys(tmp_path / "worker.key", generate_keys())
    (tmp_path / "gateway.pub").write_bytes(generate_keys().public)
    settings = WorkerSettings(worker_link="tcp://gateway:7000", worker_link_keys=tmp_path)

    orders = orders_of(settings, with_parent=False)

    assert orders.control_address == "tcp://gateway:7001"
    assert orders.keys_folder == str(tmp_path)


def test_an_ipc_link_needs_no_keys() -> None:
    assert link_keys(WorkerSettings()) is None
