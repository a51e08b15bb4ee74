"""Frameworks for voice agents in live sessions: LiveKit's and pipecat's clients of OpenAI's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import SAID, TURN, Clients, clip
from tests.together.processes import Server
from tests.together.realtime_client import pcm

RATE = 16_000
SILENCE = np.zeros(RATE, np.float32)
MODELS = ("qwen3-asr", "gpt-4o-mini-transcribe", "whisper-1")


@pytest.fixture
def turn(tmp_path: Path) -> Path:
    """What a room sends of one turn, and a second of silence."""
    path = tmp_path / "turn.pcm"
    path.write_bytes(pcm(np.concatenate([clip(TURN), SILENCE])))
    return path


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types, each run once."""
    listed = [event["type"] for event in events]
    return [kind for place, kind in enumerate(listed) if listed[place - 1 : place] != [kind]]


def finals(events: list[dict[str, Any]], kind: str) -> str:
    return " ".join(event["text"] for event in events if event["type"] == kind)


@pytest.mark.parametrize("model", MODELS)
def test_livekit_hears_the_words_between_start_and_end_of_speech(
    clients: Clients, server: Server, turn: Path, model: str
) -> None:
    outcome = clients.get("livekit_stt_1").call(
        "listen", server.port, turn, rate=RATE, words=len(SAID[TURN].split()), model=model
    )

    events = outcome["events"]
    assert finals(events, "final_transcript") == SAID[TURN]
    assert kinds(events)[0] == "start_of_speech"
    assert {"end_of_speech", "interim_transcript", "recognition_usage"} <= set(kinds(events))
    assert {event["language"] for event in events if event["type"] == "final_transcript"} == {"en"}
    seconds = [event["seconds"] for event in events if event["type"] == "recognition_usage"]
    assert all(length > 0 for length in seconds)


@pytest.mark.long  # as people speak: a detector of their side and one of ours are in a race
def test_livekits_own_detector_ends_turns_of_models_that_end_none(
    clients: Clients, server: Server, turn: Path
) -> None:
    turn.write_bytes(turn.read_bytes() * 2)
    outcome = clients.get("livekit_stt_1").call(
        "listen",
        server.port,
        turn,
        rate=RATE,
        words=2 * len(SAID[TURN].split()),
        model="gpt-live-transcribe",
        pace=1,
    )

    assert finals(outcome["events"], "final_transcript") == f"{SAID[TURN]} {SAID[TURN]}"
    assert kinds(outcome["events"]).count("end_of_speech") == 2


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "qwen3-asr"])
def test_pipecat_commits_what_its_own_detector_ends(
    clients: Clients, server: Server, turn: Path, model: str
) -> None:
    outcome = clients.get("pipecat_stt_1").call(
        "listen",
        server.port,
        turn,
        rate=RATE,
        words=len(SAID[TURN].split()),
        model=model,
        local_vad=True,
    )

    events = outcome["events"]
    assert finals(events, "TranscriptionFrame") == SAID[TURN]
    assert finals(events, "InterimTranscriptionFrame").split() == SAID[TURN].split()
    assert set(kinds(events)) == {"InterimTranscriptionFrame", "TranscriptionFrame"}


def test_pipecat_takes_turns_from_the_server(clients: Clients, server: Server, turn: Path) -> None:
    outcome = clients.get("pipecat_stt_1").call(
        "listen",
        server.port,
        turn,
        rate=RATE,
        words=len(SAID[TURN].split()),
        model="gpt-transcribe",
        local_vad=False,
    )

    events = outcome["events"]
    assert finals(events, "TranscriptionFrame") == SAID[TURN]
    assert kinds(events)[0] == "ProposedUserStartedSpeakingFrame"
    assert kinds(events)[-1] == "TranscriptionFrame"
    assert "ProposedUserStoppedSpeakingFrame" in kinds(events)
    assert "ErrorFrame" not in kinds(events)
