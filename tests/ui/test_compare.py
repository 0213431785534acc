"""The Compare page: two topics side by side, and what each of them needs."""

from streamlit.testing.v1 import AppTest

from service import Service
from study import plan_path
from tests.ui.conftest import Open, links, words
from ui.widgets.plain import formula_cell

GANS = "generative-adversarial-networks"
VAES = "variational-autoencoders"
ELBO = "variational-autoencoders/training-objectives/elbo"
VARIANCE = "foundations/probability/variance"
RLHF = "gpt-family/rlhf"


def no_fault(at: AppTest) -> None:
    assert not at.exception
    assert not at.error


def linked(at: AppTest) -> set[str]:
    """The topics that the page links to."""
    return {query.removeprefix("id=").replace("%2F", "/") for _, page, query in links(at) if page == "topic"}


def test_without_topics_the_page_asks_for_two(open_page: Open) -> None:
    at = open_page("compare")
    no_fault(at)
    assert "Choose two topics" in words(at)


def test_an_authored_comparison_stands_as_it_was_written(open_page: Open, atlas: Service) -> None:
    at = open_page("compare", **{"topic": GANS, "with": VAES})
    no_fault(at)
    comparison = atlas.compare(GANS, VAES)
    said = words(at)
    assert comparison.question in said
    assert all(f"**{aspect.name}**" in said for aspect in comparison.aspects)
    assert "Nobody has compared" not in said


def test_what_nobody_compared_is_put_together_and_says_so(open_page: Open, atlas: Service) -> None:
    at = open_page("compare", **{"topic": ELBO, "with": RLHF})
    no_fault(at)
    said = words(at)
    assert "Nobody has compared these two yet" in said
    assert "| **Needed first** |" in said
    assert f"${' '.join(atlas.store.topic(ELBO).formula.split())}"[:20] in said, "a formula stays one"


def test_a_bar_in_a_formula_does_not_end_its_cell() -> None:
    assert formula_cell(r"$q(z|x) \| p$") == r"$q(z\vert x) \Vert  p$"


def test_the_ways_to_both_are_told_apart(open_page: Open, atlas: Service) -> None:
    at = open_page("compare", **{"topic": ELBO, "with": VARIANCE})
    no_fault(at)
    one, other = ({s.topic.id for s in plan_path(atlas.store, [g]).steps} for g in (ELBO, VARIANCE))
    said = words(at)
    assert f"**Both** :gray[{len(one & other)} " in said
    assert f":gray[{len(one - other - {ELBO})} " in said
    assert linked(at) >= one & other


def test_of_two_topics_the_one_that_the_other_needs_comes_first(open_page: Open, atlas: Service) -> None:
    before = next(s.topic for s in plan_path(atlas.store, [ELBO]).steps if s.topic.id != ELBO)
    at = open_page("compare", **{"topic": ELBO, "with": before.id})
    no_fault(at)
    assert f"**{before.title}** comes first" in words(at)


def test_one_topic_alone_offers_what_it_was_compared_with(open_page: Open, atlas: Service) -> None:
    at = open_page("compare", topic=GANS)
    no_fault(at)
    offered = {each.key.removeprefix("with-") for each in at.button if each.key and each.key.startswith("with-")}
    others = {side for c in atlas.store.comparisons(GANS) for side in c.between} - {GANS}
    assert offered == others
    at.button(key=f"with-{VAES}").click().run()
    no_fault(at)
    assert at.selectbox(key="box-with").value == VAES
    assert atlas.compare(GANS, VAES).question in words(at)


def test_one_topic_twice_is_told(open_page: Open) -> None:
    at = open_page("compare", **{"topic": GANS, "with": GANS})
    no_fault(at)
    assert "one topic twice" in words(at)


def test_an_unknown_topic_is_named(open_page: Open) -> None:
    at = open_page("compare", **{"topic": GANS, "with": "no/such"})
    no_fault(at)
    assert "There is no topic **no/such**" in words(at)
