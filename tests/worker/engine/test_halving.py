from worker.engine.halving import halves, remaining, sequences_of
from worker.sequence import (
    Batch,
    DecodeStep,
    Encode,
    Extend,
    Priority,
    Sequence,
    TokenSlice,
    WindowSlice,
)


def sequence(name: str) -> Sequence:
    return Sequence((name, 0), Priority.BULK, windows=8, prompt_tokens=90, max_new_tokens=9)


A, B, C = (sequence(name) for name in "abc")


def halved_to_the_end(batch: Batch) -> list[Batch]:
    parts = halves(batch)
    return (
        [batch] if parts is None else [piece for part in parts for piece in halved_to_the_end(part)]
    )


def test_a_decode_step_is_halved_by_sequences() -> None:
    assert halves(DecodeStep((A, B, C))) == (DecodeStep((A,)), DecodeStep((B, C)))


def test_a_decode_step_of_one_sequence_cannot_be_parted() -> None:
    assert halves(DecodeStep((A,))) is None


def test_encoder_windows_are_halved_by_count_within_a_sequence_if_need_be() -> None:
    batch = Encode((WindowSlice(A, 0, 1), WindowSlice(B, 2, 5)))

    assert halves(batch) == (
        Encode((WindowSlice(A, 0, 1), WindowSlice(B, 2, 2))),
        Encode((WindowSlice(B, 4, 3),)),
    )


def test_only_the_second_half_of_a_prompt_yields_its_first_token() -> None:
    batch = Extend((TokenSlice(A, 10, 7, is_last=True),))

    assert halves(batch) == (
        Extend((TokenSlice(A, 10, 3, is_last=False),)),
        Extend((TokenSlice(A, 13, 4, is_last=True),)),
    )


def test_a_slice_that_stays_whole_keeps_its_end() -> None:
    batch = Extend((TokenSlice(A, 0, 4, is_last=True), TokenSlice(B, 0, 4, is_last=False)))

    assert halves(batch) == (
        Extend((TokenSlice(A, 0, 4, is_last=True),)),
        Extend((TokenSlice(B, 0, 4, is_last=False),)),
    )


def test_halving_to_the_end_does_every_window_and_token_once_and_in_order() -> None:
    windows = halved_to_the_end(Encode((WindowSlice(A, 3, 5), WindowSlice(B, 0, 2))))
    tokens = halved_to_the_end(Extend((TokenSlice(A, 0, 6, True), TokenSlice(C, 4, 3, True))))

    assert [(part.sequence, part.first) for one in windows for part in one.parts] == [
        *((A, place) for place in range(3, 8)),
        *((B, place) for place in range(2)),
    ]
    assert [(piece.first, piece.is_last) for one in tokens for piece in one.slices] == [
        *((place, place == 5) for place in range(6)),
        *((place, place == 6) for place in range(4, 7)),
    ]


def test_who_left_is_taken_out() -> None:
    batch = Extend((TokenSlice(A, 0, 4, True), TokenSlice(B, 0, 4, True)))

    assert remaining(batch, lambda one: one is B) == Extend((TokenSlice(B, 0, 4, True),))
    assert sequences_of(batch) == (A, B)


def test_nothing_remains_of_a_batch_whose_sequences_all_left() -> None:
    for batch in (
        DecodeStep((A,)),
        Encode((WindowSlice(A, 0, 1),)),
        Extend((TokenSlice(A, 0, 1, True),)),
    ):
        assert remaining(batch, lambda _: False) is None
