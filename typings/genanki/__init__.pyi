from collections.abc import Sequence
from typing import IO

class Model:
    def __init__(
        self,
        model_id: int,
        name: str,
        fields: Sequence[dict[str, str]],
        templates: Sequence[dict[str, str]],
        css: str = ...,
    ) -> None: ...

class Note:
    def __init__(
        self, model: Model, fields: Sequence[str], tags: Sequence[str] = ..., guid: str = ..., due: int = ...
    ) -> None: ...

class Deck:
    notes: list[Note]
    def __init__(self, deck_id: int, name: str, description: str = ...) -> None: ...
    def add_note(self, note: Note) -> None: ...

class Package:
    def __init__(self, deck_or_decks: Deck | Sequence[Deck], media_files: Sequence[str] = ...) -> None: ...
    def write_to_file(self, file: str | IO[bytes], timestamp: float | None = ...) -> None: ...

def guid_for(*values: str) -> str: ...
