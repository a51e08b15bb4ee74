"""Measured words of the running server, with a tiny forced aligner in its published layout."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysubs2
import pytest

from tests.together.processes import Server, eventually, serving
from tests.worker.engine.tiny_aligner import write_ascending_aligner

CLIP = Path(__file__).parents[2] / "examples" / "speech" / "digits_british.flac"


@pytest.fixture(scope="module", params=["native", "official"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    aligner = write_ascending_aligner(tmp_path_factory.mktemp("aligner"))
    with serving(
        "serve",
        tmp_path_factory.mktemp("s"),
        MODEL_ID="embedded",
        ENGINE=request.param,
        FORCED_ALIGNER_ID=str(aligner),
    ) as server:
        yield server


def answer(server: Server, **fields: Any) -> Any:
    response = server.transcribe(CLIP.read_bytes(), **fields)
    assert response.status_code == 200, response.text
    return response


def test_words_have_the_times_that_were_measured(server: Server) -> None:
    transcript = answer(
        server,
        response_format="verbose_json",
        **{"timestamp_granularities[]": ["word", "segment"]},
    ).json()

    words = transcript["words"]
    assert " ".join(word["word"] for word in words) == transcript["text"]
    assert len(words) > 2
    assert not any("estimated" in word for word in words)
    assert all(word["start"] < word["end"] <= transcript["duration"] for word in words)
    assert all(word["end"] <= following["start"] for word, following in pairwise(words))
    # The aligner's clock: steps of 80 ms.
    assert all(round(word["start"] * 1000) % 80 == 0 for word in words)
    assert transcript["segments"][0]["start"] == words[0]["start"]


def test_subtitles_begin_with_their_first_measured_word(server: Server) -> None:
    words = answer(
        server, response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    ).json()["words"]

    subtitles = pysubs2.SSAFile.from_string(answer(server, response_format="srt").text)

    assert subtitles[0].start == round(words[0]["start"] * 1000)


def test_a_wrong_aligner_ends_the_engine_and_is_told_to_the_operator(tmp_path: Path) -> None:
    with serving(
        "serve",
        tmp_path,
        MODEL_ID="embedded",
        FORCED_ALIGNER_ID="/nonexistent/aligner",
        WORKER_START_TIMEOUT="1",
    ) as server:
        response = server.transcribe(CLIP.read_bytes())

        assert response.status_code == 503
        told = "The folder that FORCED_ALIGNER_ID names does not exist"
        eventually(
            lambda: told in str(server.client.get("/health").json()["workers"]), "health is silent"
        )
        eventually(lambda: "model_not_found" in server.running.log.read_text(), "the log is silent")
        assert "/nonexistent" not in response.text
