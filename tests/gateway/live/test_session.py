"""Sessions between a client and engines that die: nothing is lost, and nothing told twice."""

from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.live.events import (
    Audio,
    AudioCleared,
    ClearAudio,
    CommitRefused,
    CommitTurn,
    EngineReady,
    EngineWarming,
    Finish,
    Opening,
    Reconfigure,
    SessionEnded,
    TextChanged,
    TurnCommitted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    TurnStopped,
)
from gateway.live.room import Rooms
from gateway.live.session import LiveSession
from gateway.worker_client import outcomes
from gateway.worker_client.live_calls import EngineFound, EngineLost, TryAgain
from protocol.limits import LIVE_WINDOW_SECONDS
from protocol.live import (
    AudioPacket,
    CloseSession,
    Commit,
    Configure,
    Hypothesis,
    Listened,
    OpenSession,
)
from tests.gateway.live.letter_engine import STEP, LetterEngine, options, spoken, stream_format
from tests.gateway.live.recorder import Recorder

A, B, C = chr(0x101), chr(0x102), chr(0x103)
"""Letters 1, 2 and 3 as an engine writes them."""


class Line:
    """In place of a LiveCall: the engine at its other end, as long as there is one."""

    def __init__(self) -> None:
        self.is_full = False
        self.wants_reminder = False
        self.attempt = 0
        self.engine: LetterEngine | None = None
        self.has_engine = False
        self.is_stalled = False
        self.sent: list[object] = []

    def send(self, attempt: int, message: object) -> bool:
        if not self.has_engine or attempt != self.attempt or self.is_stalled:
            return False
        self.sent.append(message)
        if isinstance(message, OpenSession):
            assert message.attempt == attempt
            self.engine = LetterEngine(message)
        else:
            assert self.engine is not None
            self.engine.receive(message)
        return True


class Conversation:
    """A session, its line and what its client is told; the engine speaks when it is let."""

    def __init__(self, *, channels: int = 1, is_manual: bool = False) -> None:
        self.line = Line()
        self.told = Recorder()
        self.said = bytearray()
        opening = Opening(stream_format(channels), options(is_manual=is_manual), "call")
        self.session = LiveSession(
            "sess_1",
            opening,
            self.line,
            room=Rooms(each=1 << 30, together=1 << 30, most_sessions=8).enter(),
            new_path=lambda: Path("/nowhere/at/all"),
            tell=self.told,
        )

    def say(self, content: bytes) -> None:
        self.said += content
        self.session.take(Audio(content))

    def find_engine(self) -> None:
        self.line.attempt += 1
        self.line.has_engine, self.line.engine = True, None
        self.session.learn(EngineFound(self.line.attempt))

    def kill_engine(self) -> None:
        self.line.has_engine, self.line.engine = False, None
        self.session.learn(EngineLost())

    def let_engine_speak(self) -> None:
        """What the engine has said reaches the session, which may send more."""
        while (engine := self.line.engine) is not None and engine.told:
            told, engine.told = engine.told, []
            for event in told:
                self.session.learn(event)

    def let_engine_finish(self) -> None:
        """All it has to answer as well."""
        self.let_engine_speak()
        while (engine := self.line.engine) is not None and engine.answer():
            self.let_engine_speak()

    def guess(self) -> None:
        if self.line.engine is not None:
            self.line.engine.guess()

    def check_audio(self) -> None:
        """The engine has what the client said from where it was opened on."""
        engine = self.line.engine
        if engine is not None:
            start = engine.opening.start * engine.opening.format.frame_bytes
            assert engine.received == self.said[start : start + len(engine.received)]


def kinds(talk: Conversation) -> list[type]:
    return [type(event) for event in talk.told.events]


def events_of(talk: Conversation, *wanted: type) -> list[object]:
    return [event for event in talk.told.events if isinstance(event, wanted)]


def test_speech_before_any_engine_is_kept_and_transcribed() -> None:
    talk = Conversation()
    talk.session.warm_up(is_ready=False)
    talk.say(spoken(1, steps=20) + spoken(0, steps=20))
    talk.find_engine()
    talk.let_engine_finish()

    assert kinds(talk) == [
        EngineWarming,
        EngineReady,
        TurnStarted,
        TurnStopped,
        TurnCommitted,
        TurnCompleted,
    ]
    assert talk.told.text() == A


def test_half_a_frame_waits_for_its_other_half() -> None:
    talk = Conversation(channels=2)
    talk.find_engine()
    talk.say(spoken(1, 2, steps=20) + b"\x00")
    talk.say(b"\x00" + spoken(0, 0, steps=20))
    talk.let_engine_finish()

    talk.check_audio()
    assert (talk.told.text(0), talk.told.text(1)) == (A, B)


def test_deltas_grow_and_the_rest_comes_with_the_end() -> None:
    talk = Conversation()
    talk.find_engine()
    for letter in (1, 2, 3):
        talk.say(spoken(letter, steps=5))
        talk.guess()
        talk.let_engine_speak()
    talk.say(spoken(0, steps=20))
    talk.let_engine_finish()

    changes = [event for event in talk.told.events if isinstance(event, TextChanged)]
    assert [(change.delta, change.tail) for change in changes] == [("", A), (A, B), (B, C)]
    [completed] = [event for event in talk.told.events if isinstance(event, TurnCompleted)]
    assert (completed.transcript, completed.delta) == (A + B + C, C)


def test_a_turn_goes_on_under_its_id_in_the_next_engine() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=10) + spoken(2, steps=10))
    talk.guess()
    talk.let_engine_speak()
    talk.kill_engine()
    talk.say(spoken(3, steps=10) + spoken(0, steps=20))
    talk.find_engine()
    talk.guess()
    talk.let_engine_finish()

    assert len(events_of(talk, TurnStarted)) == 1
    assert talk.told.text() == A + B + C
    assert talk.session.contradictions == 0


def test_an_engine_that_has_yet_to_catch_up_takes_nothing_back() -> None:
    talk = Conversation()
    talk.find_engine()
    for letter in (1, 2, 3):
        talk.say(spoken(letter, steps=5))
    talk.guess()
    talk.let_engine_speak()
    talk.kill_engine()
    talk.find_engine()
    talk.guess()
    engine = talk.line.engine
    assert engine is not None
    engine.told = [
        replace(event, stable="", tail=A) if isinstance(event, Hypothesis) else event
        for event in engine.told
    ]
    talk.let_engine_speak()
    talk.say(spoken(0, steps=20))
    talk.let_engine_finish()

    changes = [event for event in talk.told.events if isinstance(event, TextChanged)]
    assert [change.stable for change in changes] == [A + B, A + B]
    assert talk.told.text() == A + B + C
    assert talk.session.contradictions == 0


def test_what_was_answered_before_a_death_is_not_answered_again() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20) + spoken(0, steps=12))
    talk.let_engine_finish()
    talk.kill_engine()
    talk.say(spoken(2, steps=20) + spoken(0, steps=20))
    talk.find_engine()
    talk.let_engine_finish()

    assert talk.told.text() == A + B
    assert len(talk.told.committed) == 2


def test_the_next_engine_is_told_up_to_where_everything_was_answered() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20) + spoken(0, steps=12))
    talk.let_engine_finish()
    talk.say(spoken(2, steps=20))
    talk.let_engine_speak()
    talk.kill_engine()
    talk.find_engine()
    talk.say(spoken(0, steps=20))

    first, second = (each for each in talk.line.sent if isinstance(each, OpenSession))
    assert first.taken == (0,)
    assert second.taken == (20 * STEP,)


def test_a_final_that_contradicts_is_the_truth_and_counted() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=10) + spoken(2, steps=10))
    talk.guess()
    engine = talk.line.engine
    assert engine is not None
    engine.told = [
        replace(event, stable="quite ", tail="wrong") if isinstance(event, Hypothesis) else event
        for event in engine.told
    ]
    talk.let_engine_speak()
    talk.say(spoken(0, steps=20))
    talk.let_engine_finish()

    [completed] = [event for event in talk.told.events if isinstance(event, TurnCompleted)]
    assert (completed.transcript, completed.delta) == (A + B, "")
    assert talk.session.contradictions == 1


def test_a_commit_is_refused_below_a_tenth_of_a_second() -> None:
    talk = Conversation(is_manual=True)
    talk.say(bytes(799))
    talk.session.take(CommitTurn())

    assert events_of(talk, CommitRefused, TurnCommitted) == [CommitRefused(99)]


def test_an_empty_commit_is_answered_without_an_engine_where_it_may_be_empty() -> None:
    talk = Conversation(is_manual=True)
    talk.session.take(CommitTurn(even_if_empty=True))

    assert kinds(talk) == [TurnCommitted, TurnCompleted]
    assert talk.line.sent == []


@pytest.mark.parametrize("is_manual", [True, False])
def test_a_commit_of_silence_gives_an_item_without_text(is_manual: bool) -> None:
    talk = Conversation(is_manual=is_manual)
    talk.find_engine()
    talk.say(spoken(0, steps=20))
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert kinds(talk) == [EngineReady, TurnCommitted, TurnCompleted]
    assert talk.told.text() == ""


def test_a_manual_turn_is_one_item_however_long_it_is() -> None:
    talk = Conversation(is_manual=True)
    talk.find_engine()
    talk.say(spoken(1, steps=90) + spoken(2, steps=90) + spoken(3, steps=90))
    talk.let_engine_finish()
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert len(talk.told.committed) == 1
    assert talk.told.text().replace(" ", "") in (A + B + C, A + B + B + C, A + B + B + C + C)


def test_a_commit_closes_the_turn_that_is_open() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert kinds(talk) == [EngineReady, TurnStarted, TurnCommitted, TurnCompleted]
    [committed] = [event for event in talk.told.events if isinstance(event, TurnCommitted)]
    assert committed.by_client


def test_a_commit_after_several_turns_is_of_the_last_of_them() -> None:
    talk = Conversation()
    for letter in (1, 2):
        talk.say(spoken(letter, steps=20) + spoken(0, steps=12))
    talk.say(spoken(3, steps=20))
    talk.session.take(CommitTurn())
    talk.find_engine()
    talk.let_engine_finish()

    committed = [event for event in talk.told.events if isinstance(event, TurnCommitted)]
    assert [event.by_client for event in committed] == [False, False, True]
    assert talk.told.text() == A + B + C


def test_a_commit_far_ahead_of_the_engine_ends_the_turn_it_stands_behind() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    talk.say(spoken(0, steps=12) + spoken(2, steps=20))
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    committed = [event for event in talk.told.events if isinstance(event, TurnCommitted)]
    assert [event.by_client for event in committed] == [False, True]
    assert talk.told.text() == A + B


def test_a_second_commit_without_audio_between_is_refused() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    talk.session.take(CommitTurn())
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert kinds(talk) == [EngineReady, TurnStarted, CommitRefused, TurnCommitted, TurnCompleted]


def test_a_turn_that_was_committed_is_not_taken_back_before_the_engine_knows() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    talk.session.take(CommitTurn())
    talk.session.take(ClearAudio())
    talk.let_engine_finish()

    [started] = [event for event in talk.told.events if isinstance(event, TurnStarted)]
    [completed] = [event for event in talk.told.events if isinstance(event, TurnCompleted)]
    assert (completed.item_id, completed.transcript) == (started.item_id, A)


def test_a_commit_where_only_one_side_speaks_gives_that_side_an_item() -> None:
    talk = Conversation(channels=2)
    talk.find_engine()
    talk.say(spoken(0, 1, steps=20))
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    committed = [event for event in talk.told.events if isinstance(event, TurnCommitted)]
    assert [event.channel for event in committed] == [1]
    assert talk.told.text(1) == A


def test_a_commit_of_silence_is_answered_also_where_one_side_is_before_the_other_ends() -> None:
    talk = Conversation(channels=2)
    talk.find_engine()
    talk.say(spoken(0, 0, steps=20))
    talk.let_engine_speak()
    talk.session.take(CommitTurn())
    engine = talk.line.engine
    assert engine is not None
    while engine.answer():
        pass
    engine.told.sort(key=attrgetter("channel"))
    talk.let_engine_finish()

    assert kinds(talk) == [EngineReady, TurnCommitted, TurnCompleted]


def test_an_unanswered_commit_is_given_to_the_next_engine() -> None:
    talk = Conversation(is_manual=True)
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.session.take(CommitTurn())
    talk.say(spoken(2, steps=20))
    talk.let_engine_speak()
    talk.kill_engine()
    talk.find_engine()
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert [talk.told.transcripts[item] for item in talk.told.committed] == [A, B]


def test_what_is_cleared_is_never_spoken_of_again() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    talk.session.take(ClearAudio())
    talk.say(spoken(0, steps=20) + spoken(2, steps=20) + spoken(0, steps=20))
    talk.let_engine_finish()

    assert talk.told.text() == B
    assert len(events_of(talk, AudioCleared)) == 1


def test_speech_that_begins_while_it_is_cleared_is_never_spoken_of() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.session.take(ClearAudio())
    talk.let_engine_finish()

    assert events_of(talk, TurnStarted) == []


def test_a_later_part_is_told_of_when_the_one_before_is_answered() -> None:
    talk = Conversation(is_manual=True)
    talk.find_engine()
    talk.say(spoken(1, steps=45) + spoken(2, steps=45))
    talk.guess()
    talk.say(spoken(0, steps=10) + spoken(3, steps=20) + spoken(4, steps=20))
    talk.guess()
    talk.let_engine_finish()
    talk.session.take(CommitTurn())
    talk.let_engine_finish()

    assert talk.told.text() == A + B + " " + C + chr(0x104)
    assert talk.session.contradictions == 0


def test_a_turn_that_the_next_engine_does_not_hear_ends_with_what_was_told() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=10) + spoken(2, steps=10))
    talk.guess()
    talk.let_engine_speak()
    talk.kill_engine()
    talk.find_engine()
    talk.session.learn(Listened("sess_1", 2, 16_000, 16_000))

    assert kinds(talk)[-3:] == [TurnStopped, TurnCommitted, TurnCompleted]
    assert talk.told.text() == A


def test_a_short_turn_that_was_answered_is_not_taken_for_the_next() -> None:
    talk = Conversation(is_manual=True)
    talk.find_engine()
    talk.say(spoken(1, steps=5))
    talk.session.take(CommitTurn(even_if_empty=True))
    talk.let_engine_finish()
    talk.kill_engine()
    talk.find_engine()
    talk.let_engine_finish()

    assert talk.told.text() == A
    assert len(talk.told.committed) == 1


def test_finish_answers_what_is_open_and_ends() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.session.take(Finish())
    talk.let_engine_finish()

    assert talk.told.text() == A
    assert talk.told.ended == SessionEnded(None, "")


def test_finish_without_audio_needs_no_engine() -> None:
    talk = Conversation()
    talk.session.take(Finish())

    assert kinds(talk) == [SessionEnded]


def test_the_format_may_change_until_the_first_audio() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.session.take(Reconfigure(options(), stream_format(2)))
    talk.say(spoken(1, 2, steps=20) + spoken(0, 0, steps=20))
    talk.let_engine_finish()

    assert talk.told.text(1) == B


def test_options_of_an_earlier_moment_hold_there_again_in_the_next_engine() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.let_engine_speak()
    changed = replace(options(), prompt="names")
    talk.session.take(Reconfigure(changed))
    talk.kill_engine()
    talk.line.sent.clear()
    talk.find_engine()

    opened, _, configured = talk.line.sent
    assert isinstance(opened, OpenSession)
    assert opened.options.prompt == ""
    assert configured == Configure("sess_1", changed)


def test_no_more_than_the_window_is_sent_ahead_of_the_engines_ear() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(bytes(8000 * (LIVE_WINDOW_SECONDS + 10)))

    sent = sum(len(each.content) for each in talk.line.sent if isinstance(each, AudioPacket))
    assert sent == 8000 * LIVE_WINDOW_SECONDS
    talk.let_engine_speak()
    talk.check_audio()
    assert talk.line.engine is not None
    assert len(talk.line.engine.received) == 8000 * (LIVE_WINDOW_SECONDS + 10)


def test_packets_are_gathered_while_the_engine_is_held_up() -> None:
    talk = Conversation()
    talk.find_engine()
    for _ in range(500):
        talk.say(bytes(160))

    assert sum(isinstance(each, AudioPacket) for each in talk.line.sent) < 32 + 100
    talk.let_engine_speak()
    talk.check_audio()
    assert talk.line.engine is not None
    assert len(talk.line.engine.received) == 500 * 160


def test_a_commit_does_not_wait_for_more_audio_to_gather() -> None:
    talk = Conversation()
    talk.find_engine()
    for _ in range(50):
        talk.say(bytes(160))
    talk.session.take(CommitTurn(even_if_empty=True))

    assert isinstance(talk.line.sent[-1], Commit)
    assert talk.line.engine is not None
    assert len(talk.line.engine.received) == 50 * 160


def test_gathered_audio_is_sent_on_a_reminder_when_the_client_falls_silent() -> None:
    talk = Conversation()
    talk.find_engine()
    for _ in range(36):
        talk.say(bytes(160))
    assert talk.line.engine is not None
    assert len(talk.line.engine.received) < 36 * 160
    assert talk.line.wants_reminder

    talk.session.learn(TryAgain())

    assert len(talk.line.engine.received) == 36 * 160


def test_a_stalled_link_loses_nothing() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.line.is_stalled = True
    talk.say(spoken(2, steps=20))
    talk.session.take(CommitTurn())
    talk.line.is_stalled = False
    talk.session.learn(TryAgain())
    talk.let_engine_finish()

    assert talk.told.text() == A + B


def test_items_that_were_committed_fail_when_no_engine_comes_any_more() -> None:
    talk = Conversation(is_manual=True)
    talk.say(spoken(1, steps=20))
    talk.session.take(CommitTurn())
    talk.session.learn(outcomes.poison_session())

    assert kinds(talk) == [TurnCommitted, TurnFailed, SessionEnded]
    assert talk.told.ended is not None
    assert talk.told.ended.code == "worker_failed"


def test_a_part_that_failed_fails_its_item_and_the_session_goes_on() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20) + spoken(0, steps=20))
    talk.let_engine_speak()
    assert talk.line.engine is not None
    talk.line.engine.answer(fails=True)
    talk.say(spoken(2, steps=20) + spoken(0, steps=20))
    talk.let_engine_finish()

    assert len(talk.told.failed) == 1
    assert talk.told.text() == B


def test_the_last_word_of_a_session_closes_it_in_its_engine() -> None:
    talk = Conversation()
    talk.find_engine()
    talk.say(spoken(1, steps=20))
    talk.session.take(Finish())
    talk.kill_engine()
    talk.find_engine()

    assert isinstance(talk.line.sent[-1], CloseSession)
    talk.let_engine_finish()
    assert talk.told.text() == A


SAID = st.tuples(st.just("say"), st.integers(9, 40), st.integers(0, 25), st.integers(150, 9 * STEP))
EVENTS = st.one_of(
    SAID,
    SAID,
    st.tuples(st.sampled_from(["commit", "engine", "kill", "guess", "speak", "answer", "stall"])),
)


def play(talk: Conversation, history: list[tuple[object, ...]], *, clears: bool) -> str:
    """Play a history; the letters that were said, in their order."""
    letters = 0
    for kind, *rest in history:
        if kind == "say" and letters < 250:
            steps, silence, piece = (int(str(each)) for each in rest)
            letters += 1
            channels = talk.session._log.format.channels
            content = spoken(*[letters] * channels, steps=steps)
            content += spoken(*[0] * channels, steps=silence)
            for start in range(0, len(content), piece):
                talk.say(content[start : start + piece])
        elif kind == "commit":
            talk.session.take(ClearAudio() if clears and letters % 3 == 0 else CommitTurn())
        elif kind == "engine" and not talk.line.has_engine:
            talk.find_engine()
        elif kind == "kill" and talk.line.has_engine:
            talk.kill_engine()
        elif kind == "guess":
            talk.guess()
        elif kind == "speak":
            talk.let_engine_speak()
        elif kind == "answer" and talk.line.engine is not None:
            talk.line.engine.answer()
        elif kind == "stall":
            talk.line.is_stalled = not talk.line.is_stalled
        talk.check_audio()
    talk.line.is_stalled = False
    talk.session.take(Finish())
    if not talk.line.has_engine:
        talk.find_engine()
    talk.session.learn(TryAgain())
    talk.let_engine_finish()
    talk.check_audio()
    return "".join(chr(0x100 + number) for number in range(1, letters + 1))


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=60), st.integers(1, 2), st.booleans())
def test_whatever_happens_every_word_is_told_once(
    history: list[tuple[object, ...]], channels: int, is_manual: bool
) -> None:
    talk = Conversation(channels=channels, is_manual=is_manual)
    said = play(talk, history, clears=False)

    assert talk.told.ended == SessionEnded(None, "")
    assert talk.told.unanswered == []
    for channel in range(channels):
        letters = [letter for letter in talk.told.text(channel) if letter != " "]
        # A letter that lies over a forced end is in both utterances.
        assert "".join(dict.fromkeys(letters)) == said
        assert letters == sorted(letters)
    assert talk.session.contradictions == 0


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=60), st.integers(1, 2), st.booleans())
def test_clearing_at_any_moment_breaks_no_promise(
    history: list[tuple[object, ...]], channels: int, is_manual: bool
) -> None:
    talk = Conversation(channels=channels, is_manual=is_manual)
    play(talk, history, clears=True)

    assert talk.told.ended == SessionEnded(None, "")
    assert talk.told.unanswered == []
