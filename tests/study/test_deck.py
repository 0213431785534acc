"""The Anki package as Anki itself imports it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from anki.collection import Collection, ImportAnkiPackageOptions, ImportAnkiPackageRequest

from graph import NetworkXStore
from study import path_deck, plan_path
from tests.graph.atlases import ATLAS

WRITTEN = replace(
    ATLAS,
    topics=tuple(
        replace(
            each,
            questions=(f"Why {each.title}?", f"How < {each.title} & so on?"),
            summary=f"About {each.title}.",
            formula=r"\frac{a}{b} < 1",
            level="beginner",
        )
        for each in ATLAS.topics
    ),
)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    opened = Collection(str(tmp_path / "collection.anki2"))
    yield opened
    opened.close()


def import_deck(collection: Collection, file: Path) -> None:
    collection.import_anki_package(
        ImportAnkiPackageRequest(package_path=str(file), options=ImportAnkiPackageOptions(with_scheduling=True))
    )


def write_deck(summary: str, file: Path, made: float) -> None:
    store = NetworkXStore(replace(WRITTEN, topics=tuple(replace(each, summary=summary) for each in WRITTEN.topics)))
    file.write_bytes(path_deck(plan_path(store, ["vae/loss"]), store, lambda each: f"https://x/{each}", made))


def test_anki_imports_a_card_for_each_question_in_study_order(collection: Collection, tmp_path: Path) -> None:
    write_deck("First text.", tmp_path / "path.apkg", 1_700_000_000)
    import_deck(collection, tmp_path / "path.apkg")
    ids = collection.find_cards("", order="c.due asc")
    assert len(ids) == 7  # two for each of four steps, but one for that of which the gist is enough
    questions = [collection.get_card(each).note()["Question"] for each in ids]
    assert questions[0] == "Why Transport?"
    assert questions[1] == "How &lt; Transport &amp; so on?"
    assert questions[-1] == "How &lt; Loss &amp; so on?"
    (name,) = {collection.decks.name(collection.get_card(each).did) for each in ids}
    assert name == "GenAtlas::Loss"
    note = collection.get_card(ids[0]).note()
    assert note["Formula"] == r"\[\frac{a}{b} &lt; 1\]"
    assert note["Link"] == "https://x/transport"
    assert sorted(note.tags) == ["beginner", "transport"]
    assert "First text." in collection.get_card(ids[0]).answer()


def test_a_second_import_updates_the_cards_and_keeps_what_was_learned(collection: Collection, tmp_path: Path) -> None:
    write_deck("First text.", tmp_path / "old.apkg", time.time() - 1000)
    import_deck(collection, tmp_path / "old.apkg")
    first = collection.find_cards("")
    card = collection.get_card(first[0])
    card.ivl, card.reps = 30, 5
    collection.update_card(card)
    write_deck("Better text.", tmp_path / "new.apkg", time.time() + 1000)
    import_deck(collection, tmp_path / "new.apkg")
    assert collection.find_cards("") == first
    again = collection.get_card(first[0])
    assert "Better text." in again.note()["Answer"]
    assert (again.ivl, again.reps) == (30, 5)
