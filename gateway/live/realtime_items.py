"""The items of a realtime session that a client may ask for again. Pure."""

MAX_ITEMS = 256


class FinishedItems:
    """The newest that were committed, with their transcripts."""

    def __init__(self, most: int = MAX_ITEMS) -> None:
        self._most = most
        self._transcripts: dict[str, str | None] = {}
        """By id, oldest first."""

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._transcripts

    def __repr__(self) -> str:
        return f"<FinishedItems {len(self._transcripts)}/{self._most}>"

    def add(self, item_id: str) -> None:
        """It was committed; the oldest may be forgotten."""
        self._transcripts[item_id] = None
        if len(self._transcripts) > self._most:
            del self._transcripts[next(iter(self._transcripts))]

    def complete(self, item_id: str, transcript: str) -> None:
        """Its text is there."""
        if item_id in self._transcripts:
            self._transcripts[item_id] = transcript

    def transcript(self, item_id: str) -> str | None:
        """None while it is not there."""
        return self._transcripts[item_id]

    def delete(self, item_id: str) -> None:
        """Forget it; its outcome is told all the same, should it still come."""
        del self._transcripts[item_id]
