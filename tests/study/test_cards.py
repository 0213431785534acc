from dataclasses import replace
from datetime import date, timedelta

import pytest

from graph import Aspect, Comparison, NetworkXStore
from study.cards import card_for, cards_of, question_about
from tests.graph.atlases import atlas_of

GAN, VAE = "nets/gan", "nets/vae"


@pytest.fixture
def store() -> NetworkXStore:
    aspects = (Aspect("Pictures", ("sharp", "soft")),)
    both = Comparison("gan-vs-vae", (GAN, VAE), "Which is sharper?", aspects, "Both draw.", "Try.")
    atlas = atlas_of(["nets", GAN, VAE], comparisons=(both,))
    nets, gan, vae = atlas.topics
    questions = ("how does a gan learn", "who plays")
    gan = replace(gan, summary="Two nets play.", questions=questions, misconception="They are no rivals.")
    return NetworkXStore(replace(atlas, topics=(nets, gan, vae)))


def test_a_topic_is_asked_about_by_its_questions_and_by_what_is_got_wrong(store: NetworkXStore) -> None:
    cards = cards_of(store, GAN, {GAN})
    assert [(card.kind, card.question, card.answer) for card in cards] == [
        ("question", "how does a gan learn", "Two nets play."),
        ("question", "who plays", "Two nets play."),
        ("misconception", f"What is often got wrong about this: {store.topic(GAN).title}?", "They are no rivals."),
    ]


def test_it_is_compared_only_with_what_is_known_too(store: NetworkXStore) -> None:
    assert "comparison" not in {card.kind for card in cards_of(store, GAN, {GAN})}
    (card,) = [card for card in cards_of(store, GAN, {GAN, VAE}) if card.kind == "comparison"]
    assert [side.id for side in card.sides] == [GAN, VAE]
    assert card.aspects[0].values == ("sharp", "soft")


def test_a_topic_without_questions_is_asked_for_by_its_title(store: NetworkXStore) -> None:
    (card,) = cards_of(store, VAE, set())
    assert store.topic(VAE).title in card.question


def test_of_its_questions_a_whole_one_stands_for_a_topic(store: NetworkXStore) -> None:
    gan = store.topic(GAN)
    assert question_about(gan) == "how does a gan learn"
    assert question_about(replace(gan, questions=("gan", "Who plays?", "Why?"))) == "Who plays?"


def test_over_a_month_every_question_comes_up_and_one_day_has_one(store: NetworkXStore) -> None:
    first = date(2026, 3, 2)
    asked = {card_for(store, GAN, {GAN, VAE}, first + timedelta(days=day)).question for day in range(31)}
    assert asked == {card.question for card in cards_of(store, GAN, {GAN, VAE})}
    assert card_for(store, GAN, {GAN}, first) == card_for(store, GAN, {GAN}, first)
