"""Each script of the engine's benchmarks runs through with a tiny model and says what it should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tables(tmp_path: Path, script: str, *options: str) -> dict[str, Any]:
    """What one run wrote as JSON: rows by title and name, without the name."""
    command = [sys.executable, "-m", f"bench.{script}", "--device", "cpu", "--model", "tiny"]
    command += ["--rounds", "1", "--threads", "1", "--json", str(tmp_path), *options]
    # Compiling would take longer than all the rest; what would be compiled runs as it is.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    content = json.loads((tmp_path / f"{script}.json").read_text())
    assert content["machine"]["threads"] == "1"
    return {
        table["title"]: {
            row[0]: dict(zip(table["columns"][1:], row[1:], strict=True)) for row in table["rows"]
        }
        for table in content["tables"]
    }


def test_the_probe_answers_every_question_without_a_gpu(tmp_path: Path) -> None:
    [answers] = _tables(tmp_path, "probe").values()

    assert answers["native decode step, tiny model"]["answer"] == "yes"
    assert answers["graph capture"]["answer"] == "no: it needs a GPU"


def test_decode_steps_are_compared_with_the_official_package(tmp_path: Path) -> None:
    options = ("--batches", "2", "--contexts", "20")
    [rows] = _tables(tmp_path, "decode", *options).values()

    for row in rows.values():
        assert row["tokens/s"] == pytest.approx(2000 / row["ms"])
    official = rows["official package, generate"]
    ratio = official["ms"] / rows["native"]["ms"]
    assert rows["native"]["× official package, generate"] == pytest.approx(ratio)


def test_the_decode_step_stands_beside_floors_measured_in_the_same_run(tmp_path: Path) -> None:
    tables = _tables(tmp_path, "floor", "--rows", "1", "--context", "20")

    steps = tables["decode step, context 20, ms"]
    assert steps["1"]["× sum"] == pytest.approx(steps["1"]["native"] / steps["1"]["sum"])
    assert tables["the device"]["copy"]["ms"] > 0


def test_the_encoder_is_compared_window_batch_by_window_batch(tmp_path: Path) -> None:
    tables = _tables(tmp_path, "encoder", "--windows", "1,2")

    assert list(tables) == ["1 windows of 8 s", "2 windows of 8 s", "log-mel of 30 s"]
    assert tables["2 windows of 8 s"]["official package"]["× official package"] == 1


def test_a_recording_alone_has_its_first_token_before_its_text(tmp_path: Path) -> None:
    [rows] = _tables(tmp_path, "e2e", "--lengths", "9", "--chunk", "5").values()

    assert set(rows) == {"official", "native"}
    for row in rows.values():
        assert row["first token s"] < row["first text s"] <= row["final s"]


def test_both_engines_give_the_tokens_that_are_forced(tmp_path: Path) -> None:
    options = ("--at-once", "2", "--seconds", "2,3", "--tokens-per-second", "5")
    [rows] = _tables(tmp_path, "throughput", *options).values()

    for row in rows.values():
        # A part of a token at the end of each chunk counts as one.
        assert 5 <= row["tokens/s"] / row["audio s/s"] < 5.6


def test_live_requests_beside_a_film_are_compared_with_the_idle_engine(tmp_path: Path) -> None:
    options = ("--requests", "3", "--minutes", "0.1", "--gap", "0.02")
    [rows] = _tables(tmp_path, "live_first", *options).values()

    assert rows["native, idle"]["p50 × idle"] == 1
    assert rows["native, idle"]["film, audio s/s"] is None
    assert rows["native, bulk film"]["p95 ms"] <= rows["native, bulk film"]["worst ms"]
    assert {name.split(",")[0] for name in rows} == {"official", "native"}


def test_each_part_of_the_engine_is_switched_off_in_turn(tmp_path: Path) -> None:
    options = ("--at-once", "2", "--recordings", "2", "--requests", "3", "--minutes", "0.1")
    paces, delays = _tables(tmp_path, "ablate", *options).values()

    assert set(paces) == {
        "the engine as it is",
        "one sequence at a time",
        "one window at a time",
        "elementwise compiled",
    }
    assert set(delays) == {"the engine as it is", "no priorities"}


def test_live_steps_of_more_and_more_streams_stay_below_the_target(tmp_path: Path) -> None:
    options = ("--engine", "--seconds", "3", "--cadence", "1", "--edits", "0", "--most", "2")
    # Any machine reaches it: the search is what is looked at.
    content = _tables(tmp_path, "live", *options, "--step-target-ms", "10000")
    [rows] = content.values()

    assert set(rows) == {"verify", "rollback + caches", "full"}
    for row in rows.values():
        assert row["streams"] == 2
        assert row["p50 ms"] <= row["p95 ms"] <= row["p99 ms"] < 10_000
