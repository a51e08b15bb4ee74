"""The engine's answer -> what a chunk's text, segments and tokens are. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from protocol.transcription import Nats, Token
from worker.chunk_tasks import ChunkTask
from worker.engine.interface import ChunkText
from worker.recordings import ChunkOutcome
from worker.segments import segments_of
from worker.text.context_echo import is_copy_of_context
from worker.text.repetition import repair_repetitions
from worker.text.scripts import is_unspaced

TAIL_CHARACTERS = 200
"""Of a chunk's text that the next one may get as context."""


def is_echo(task: ChunkTask, answer: ChunkText) -> bool:
    """On next to nothing the model may hand the caller's words back: nobody said them."""
    return task.is_faint and is_copy_of_context(answer.text, task.request.context)


def outcome_of(
    task: ChunkTask, answer: ChunkText, settled: int, *, wants_tokens: bool
) -> ChunkOutcome:
    """`settled`: characters from the start that repair leaves alone, as they are told already."""
    text = "" if is_echo(task, answer) else answer.text
    text = repair_repetitions(text, answer.is_cut_off, settled)
    language = answer.language if text or not answer.text else None
    return ChunkOutcome(
        language=language,
        text=text,
        prompt_tokens=answer.prompt_tokens,
        audio_tokens=answer.audio_tokens,
        output_tokens=answer.output_tokens,
        segments=segments_of(
            text,
            language,
            task.turn.spans,
            start=task.turn.start,
            end=task.turn.end,
            channel=task.turn.channel,
            tokens=answer.tokens,
            alignment=answer.alignment,
        ),
        tokens=_tokens(answer) if wants_tokens and text == answer.text else (),
    )


def _tokens(answer: ChunkText) -> tuple[Token, ...]:
    return tuple(Token(token.content, Nats(min(0.0, token.logprob))) for token in answer.tokens)


def joined(outcomes: Sequence[ChunkOutcome]) -> ChunkOutcome:
    """Those of a chunk's turns, in order, as one: segments as they were said, tokens counted
    together, the language that most of the text is in."""
    if len(outcomes) == 1:
        return outcomes[0]
    spoken = [outcome for outcome in outcomes if outcome.text]
    segments = sorted(
        (segment for outcome in spoken for segment in outcome.segments),
        key=lambda segment: (segment.start, segment.end, segment.channel or 0),
    )
    is_in_order = len(spoken) == 1 or all(segment.channel is None for segment in segments)
    return ChunkOutcome(
        language=_most_written(spoken),
        text=joined_text([each.text for each in (spoken if is_in_order else segments)]),
        prompt_tokens=sum(outcome.prompt_tokens for outcome in outcomes),
        audio_tokens=sum(outcome.audio_tokens for outcome in outcomes),
        output_tokens=sum(outcome.output_tokens for outcome in outcomes),
        segments=tuple(segments),
        tokens=_joined_tokens(spoken) if is_in_order else (),
    )


def _joined_tokens(outcomes: Sequence[ChunkOutcome]) -> tuple[Token, ...]:
    """Those of texts that follow each other; none where some have none."""
    if not all(outcome.tokens for outcome in outcomes):
        return ()
    tokens: list[Token] = []
    for number, outcome in enumerate(outcomes):
        first, *others = outcome.tokens
        if number:
            joint = joined_text([outcomes[number - 1].text, outcome.text])
            space = joint[len(outcomes[number - 1].text) : len(joint) - len(outcome.text)]
            first = replace(first, content=space.encode() + first.content)
        tokens += [first, *others]
    return tuple(tokens)


def _most_written(outcomes: Sequence[ChunkOutcome]) -> str | None:
    written: Counter[str | None] = Counter()
    for outcome in outcomes:
        written[outcome.language] += len(outcome.text)
    return max(written, key=lambda language: written[language], default=None)


def text_behind(before: str, text: str) -> str:
    """What joined_text joined to `before`; nothing where the text is not longer than that."""
    return text[len(before) :].lstrip()


def joined_text(texts: Sequence[str]) -> str:
    """With spaces between them, but for scripts that have none."""
    whole = ""
    for text in texts:
        is_attached = not whole or (is_unspaced(whole[-1]) and is_unspaced(text[:1] or " "))
        whole += text if is_attached else f" {text}"
    return whole


def tail_of(task: ChunkTask, answer: ChunkText, outcome: ChunkOutcome) -> str:
    """The end of a text as context for the next chunk.

    Nothing of a text that is suspicious: a loop or a copy of the context would be handed on.
    """
    text = outcome.text
    if answer.is_cut_off or text != answer.text or is_copy_of_context(text, task.request.context):
        return ""
    return end_of(text)


def end_of(text: str) -> str:
    """Its last TAIL_CHARACTERS, in whole words."""
    tail = text[-TAIL_CHARACTERS:]
    before = text[:-TAIL_CHARACTERS][-1:]
    if before and not before.isspace() and not is_unspaced(before):
        tail = tail.partition(" ")[2]  # the rest of a word is none
    return tail.strip()
