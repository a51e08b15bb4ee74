"""The README's two commands as a newcomer runs them; their set-up made what runs these tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from scripts import demo
from tests.packaging.project import REPOSITORY
from tests.together.processes import DEADLINE, eventually

COMMANDS = ("scripts/set-up", "scripts/test", "scripts/demo", ".ci/run")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_executable_shell_scripts(command: str) -> None:
    path = REPOSITORY / command

    checked = subprocess.run(["bash", "-n", str(path)], check=False)
    assert checked.returncode == 0
    assert os.access(path, os.X_OK)


def _demo(*files: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "scripts" / "demo.py"), *files],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_demo_transcribes_every_bundled_clip_as_spoken() -> None:
    process = _demo(str(demo.CLIPS / "call_stereo.flac"))
    with _ended(process):
        said, _ = process.communicate(timeout=3 * DEADLINE)

    assert process.returncode == 0, said
    for clip in demo.bundled_clips():
        assert f"said   {clip.said or '(nothing)'}\n  heard  " in said
    assert said.count("[as spoken, ") == len(demo.bundled_clips())
    assert "hears English digits only" in said


def test_the_demo_refuses_a_missing_file_before_it_starts_anything() -> None:
    process = _demo("nowhere.wav")
    with _ended(process):
        said, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 2
    assert said == "There is no such file: nowhere.wav\n"


def test_an_interrupted_demo_leaves_no_process_behind() -> None:
    process = _demo()
    with _ended(process):
        assert process.stdout is not None
        for line in process.stdout:
            if "waits for the model" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)

    assert family
    assert process.returncode == 130
    eventually(lambda: not any(_lives(one) for one in family), "a process of the demo lives on")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_texts_are_compared_word_by_word() -> None:
    assert demo.words("Zero, one.") == demo.words("zero one")
    assert demo.words("zero one") != demo.words("zero oh one")


def test_a_call_is_no_clip_of_the_demo_since_its_channels_are_two_texts() -> None:
    names = {clip.path.name for clip in demo.bundled_clips()}

    assert "digits_british.flac" in names
    assert "call_stereo.flac" not in names
    assert all(Path(clip.path).is_file() for clip in demo.bundled_clips())
