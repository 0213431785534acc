import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Answerer, Searcher
from search.follow_up import completed
from tests.search.conftest import Parts


@pytest.mark.parametrize(
    ("question", "read"),
    [
        ("and its loss?", "WGAN-GP's loss?"),
        ("how does it scale?", "how does WGAN-GP scale?"),
        ("why?", "why of WGAN-GP?"),
        ("what about the critic?", "the critic of WGAN-GP?"),
        ("and does the critic need it?", "does the critic need WGAN-GP?"),
        ("their formula", "WGAN-GP's formula"),
        ("what do I need to know before this?", "what do I need to know before WGAN-GP?"),
    ],
)
def test_a_question_that_leans_gets_its_subject(question: str, read: str) -> None:
    assert completed(question, "WGAN-GP") == read


@pytest.mark.parametrize(
    "question",
    [
        "what is LoRA and is it fast?",
        "mode collapse",
        "why does the critic need a gradient penalty",
        "prove that the bound is tight",
        "DDIM or DDPM?",
    ],
)
def test_a_question_that_stands_alone_stays(question: str) -> None:
    assert completed(question, "WGAN-GP") == question


@given(st.text(max_size=60))
def test_nothing_that_was_typed_gets_lost_but_its_opening(question: str) -> None:
    read = completed(question, "S")
    assert read == question or "S" in read


def test_a_follow_up_is_answered_about_the_topic_before(parts: Parts, searcher: Searcher) -> None:
    answerer = Answerer(parts.store, searcher)
    alone, following = answerer.ask("and its formula?"), answerer.ask("and its formula?", after="vae/elbo")
    assert alone.read_as == ""
    assert alone.topic != "vae/elbo"
    assert following.question == "and its formula?"
    assert following.read_as == "Evidence Lower Bound's formula?"
    assert following.topic == "vae/elbo"
    assert following.formula == parts.store.topic("vae/elbo").formula
