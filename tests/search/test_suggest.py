import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import Topic
from search.suggest import Suggester
from tests.search.atlas import ATLAS

SUGGESTER = Suggester(ATLAS.topics)
TITLES = [topic.title for topic in ATLAS.topics]


def names(typed: str, k: int = 8) -> list[str]:
    return [suggestion.name for suggestion in SUGGESTER.suggest(typed, k)]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("mode c", "Mode Collapse"),
        ("COLL", "Mode Collapse"),
        ("elbo", "ELBO"),
        ("frechet inc", "Fréchet Inception Distance (FID)"),
        ("fid", "Fréchet Inception Distance (FID)"),
        ("beta_t", "Mean and Variance Parameters (βₜ)"),
        ("βₜ", "Mean and Variance Parameters (βₜ)"),
    ],
)
def test_a_beginning_finds_its_name(typed: str, name: str) -> None:
    assert name in names(typed)


def test_names_that_begin_so_come_before_those_with_it_inside_and_each_once() -> None:
    found = names("kl")
    assert found[0] == "KL Divergence"
    assert len(found) == len({name.casefold() for name in found})
    assert names("latent") == ["Latent Vector"]


def test_whole_words_come_before_their_continuations() -> None:
    topics = [
        Topic(str(n), title, (title,), n, 0, None) for n, title in enumerate(["Model", "Fashion Mode", "Mode Hop"])
    ]
    assert [each.name for each in Suggester(topics).suggest("mode")] == ["Mode Hop", "Fashion Mode", "Model"]


@pytest.mark.parametrize("typed", ["", "  ", "zzz", "mode collapses"])
def test_what_no_name_goes_on_from_suggests_nothing(typed: str) -> None:
    assert names(typed) == []


@given(st.sampled_from(TITLES), st.integers(1, 40), st.integers(1, 5))
def test_every_title_is_found_by_any_beginning_of_it_among_enough(title: str, length: int, k: int) -> None:
    assert title in names(title[:length].rstrip("( -") or title, k=200)
    assert len(names(title[:length], k)) <= k


@given(st.text(max_size=50))
def test_whatever_is_typed_does_no_harm(typed: str) -> None:
    assert len(names(typed)) <= 8
