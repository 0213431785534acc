import json
from dataclasses import asdict, replace

import pytest

from graph import ConceptGroup, NetworkXStore, Prerequisite, Topic
from search import Answer, Answerer, EmptyQuery, LexicalIndex, Searcher, passages_of
from search.answer import MOST_SENTENCES
from search.dense import DenseIndex
from search.passage_index import PassageIndex
from search.sentences import prose_of, sentences_of
from tests.search.atlas import ATLAS
from tests.search.conftest import Parts

TOPICS = {topic.id: topic for topic in ATLAS.topics}


@pytest.fixture(scope="module")
def answerer(parts: Parts, searcher: Searcher) -> Answerer:
    return Answerer(parts.store, searcher)


def written(topic: Topic) -> set[str]:
    return {*sentences_of(topic.summary), *prose_of(topic.detail), *sentences_of(topic.misconception)}


def test_a_definition_is_the_topic_s_own_summary(answerer: Answerer) -> None:
    answer = answerer.ask("what is the pathwise gradient estimator")
    assert answer.intent == "definition"
    assert answer.topic == "vae/latent"
    assert [sentence.text for sentence in answer.sentences] == sentences_of(TOPICS["vae/latent"].summary)
    assert {sentence.refs for sentence in answer.sentences} == {("kingma2013",)}
    assert answer.citations == ("vae/latent",)


@pytest.mark.parametrize(
    "question",
    [
        "why does mode collapse happen",
        "how is the lower bound derived",
        "what is mode collapse",
        "how many nats has the lower bound",
    ],
)
def test_every_sentence_is_one_that_its_topic_holds(answerer: Answerer, question: str) -> None:
    answer = answerer.ask(question)
    assert 2 <= len(answer.sentences) <= MOST_SENTENCES
    for sentence in answer.sentences:
        assert sentence.text in written(TOPICS[sentence.topic])


def test_a_detail_that_is_nearer_to_the_question_follows_the_summary(answerer: Answerer) -> None:
    answer = answerer.ask("how is the lower bound derived from Bayes' rule")
    assert answer.topic == "vae/elbo"
    assert answer.sentences[0].text == "The evidence lower bound is what a VAE maximises in place of the likelihood."
    assert answer.sentences[3].text.startswith("Start from Bayes' rule, i.e. $p(x)")


def test_the_formula_comes_where_it_is_the_point(answerer: Answerer) -> None:
    assert answerer.ask("formula of the evidence lower bound").formula == TOPICS["vae/elbo"].formula
    assert answerer.ask("why is the evidence lower bound tight").formula == ""


def test_a_comparison_gives_the_authored_table(answerer: Answerer) -> None:
    answer = answerer.ask("reconstruction loss vs KL divergence")
    assert answer.intent == "comparison"
    assert answer.table is not None
    assert answer.table.topics == ("vae/losses/reconstruction", "vae/losses/kl")
    assert [(row.aspect, row.values) for row in answer.table.rows] == [
        ("wants", ("a sharp code", "a vague code")),
        ("closed form", ("no", "yes")),
    ]
    assert answer.text == "Both are measured in nats. Raise the weight of the second when samples are broken."
    assert set(answer.citations) == {"vae/losses/reconstruction", "vae/losses/kl"}


def test_two_topics_asked_for_by_name_are_set_side_by_side(answerer: Answerer) -> None:
    asked = answerer.ask("describe reconstruction loss and KL divergence")
    assert asked.intent == "definition"
    assert asked.table == answerer.ask("reconstruction loss vs KL divergence").table is not None
    assert answerer.ask("describe mode collapse and how it is avoided").table is None


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("mode collapse vs KL divergence that keeps the code near the prior", "vae/losses/kl"),
        ("mode collapse vs KL divergence of one distribution from another", "foundations/kl"),
    ],
)
def test_of_several_places_of_a_name_that_one_leads_which_the_question_finds(
    answerer: Answerer, question: str, place: str
) -> None:
    assert next(one for one in answerer.ask(question).ranked if one.endswith("kl")) == place


def test_an_uncompared_pair_is_told_side_by_side_and_said_so(answerer: Answerer) -> None:
    answer = answerer.ask("what is the difference between mode collapse and the latent vector?")
    assert answer.table is not None
    assert answer.table.comparison is None
    assert answer.table.titles == ("Mode Collapse", "Latent Vector")
    assert {row.aspect: row.values for row in answer.table.rows} == {
        "Part of": ("Generative Adversarial Networks (GANs) › Training Challenges", "Variational Autoencoders (VAEs)"),
        "Often misread": ("A low generator loss does not show that modes are covered.", "—"),
        "Needed first": ("—", "KL Divergence"),
        "Demo": ("gan-mode-collapse: Count the modes that survive", "—"),
    }
    assert answer.citations == ("gan/challenges/mode-collapse", "vae/latent")
    assert answer.ranked[:2] == ("gan/challenges/mode-collapse", "vae/latent")
    assert "Nobody has compared “Mode Collapse” and “Latent Vector” yet" in answer.note


@pytest.mark.parametrize(
    "question",
    [
        "what should I watch when comparing reconstruction loss and KL divergence during training?",
        "how do I weigh the trade-offs when choosing reconstruction loss versus KL divergence in a real system?",
        "what isReconstruction Loss (of a VAE)and how does it differ from theKL divergence?",
    ],
)
def test_the_sides_of_a_long_question_are_the_names_beside_its_connective(answerer: Answerer, question: str) -> None:
    answer = answerer.ask(question)
    assert answer.table is not None
    assert answer.table.comparison == "reconstruction-vs-kl"
    assert {*answer.ranked[:2]} == {"vae/losses/reconstruction", "vae/losses/kl"}


def test_a_like_question_of_others_is_no_answer_where_the_sides_are_sure(answerer: Answerer) -> None:
    """The authored comparison asks nearly this and has neither side."""
    answer = answerer.ask("mode collapse versus latent vector: what does each term of the loss do?")
    assert answer.table is not None
    assert answer.table.titles == ("Mode Collapse", "Latent Vector")


def test_prerequisites_come_with_their_reasons_needed_ones_first(answerer: Answerer) -> None:
    answer = answerer.ask("what do I need to know before the evidence lower bound")
    assert answer.intent == "prerequisites"
    assert [(sentence.topic, sentence.text) for sentence in answer.sentences] == [
        ("vae/latent", "Latent Vector: The expectation runs over it."),
        ("foundations/kl", "KL Divergence: Its loss contains one."),
        ("diffusion/forward", "Forward Process (helpful, not needed): A second example of a bound."),
    ]


def test_a_list_names_the_subtopics(answerer: Answerer) -> None:
    answer = answerer.ask("what are the loss terms")
    assert answer.intent == "list"
    assert answer.citations == ("vae/losses/reconstruction", "vae/losses/kl")


def test_a_demo_says_what_to_look_at(answerer: Answerer) -> None:
    answer = answerer.ask("show me a demo of mode collapse")
    assert answer.demo is not None
    assert answer.demo.demo == "gan-mode-collapse"
    assert answer.text == "Count the modes that survive."
    assert answer.note == ""


def test_a_foreign_question_is_declined(answerer: Answerer) -> None:
    answer = answerer.ask("how do I bake bread")
    assert answer.abstained
    assert answer.sentences == ()
    assert answer.citations == ()
    assert len(answer.nearest) == 3
    assert answer.note == "The atlas does not cover this question."


def test_a_topic_without_text_is_said_to_have_none(answerer: Answerer) -> None:
    answer = answerer.ask("what is the Fréchet inception distance")
    assert answer.abstained
    assert answer.topic == "gan/evaluation/fid"
    assert answer.note.startswith(
        "The text of “Generative Adversarial Networks (GANs) › Evaluation › Fréchet Inception Distance (FID)” "
        "is not written yet. Nearest topic with a text: “Generative Adversarial Networks (GANs)”."
    )
    assert answer.nearest[0] == "gan"
    assert answer.ranked[0] == "gan/evaluation/fid"


def test_a_twin_s_text_answers_for_a_topic_without(parts: Parts) -> None:
    bare = replace(ATLAS, topics=tuple(replace(t, summary="") if t.id == "vae/losses/kl" else t for t in ATLAS.topics))
    passages = passages_of(bare)
    texts = [passage.text for passage in passages]
    dense, lexical = DenseIndex.build(parts.encoder.encode(texts)), LexicalIndex.build(texts)
    store, index = NetworkXStore(bare), PassageIndex(bare.topics, passages, dense, lexical)
    answer = Answerer(store, Searcher(store, parts.encoder, index)).ask("KL divergence of a VAE")
    assert answer.citations == ("foundations/kl",)
    assert not answer.abstained


def test_an_answer_without_meaning_says_so(parts: Parts, words_only: Searcher) -> None:
    answer = Answerer(parts.store, words_only).ask("why does mode collapse happen")
    assert answer.meaning_off
    assert answer.citations == ("gan/challenges/mode-collapse",)


def test_related_topics_are_others_than_those_cited(answerer: Answerer) -> None:
    answer = answerer.ask("why does mode collapse happen")
    assert answer.related
    assert not {*answer.related} & {*answer.citations}


@pytest.mark.parametrize("question", ["mode collapse", "reconstruction loss vs KL divergence", "how do I bake bread"])
def test_an_answer_is_plain_data(answerer: Answerer, question: str) -> None:
    answer: Answer = answerer.ask(question)
    assert json.loads(json.dumps(asdict(answer)))["question"] == question


def test_an_empty_question_is_refused(answerer: Answerer) -> None:
    with pytest.raises(EmptyQuery):
        answerer.ask("  ")


def test_what_a_section_needs_is_what_its_parts_need_from_outside(parts: Parts) -> None:
    outside = Prerequisite("vae/elbo", "gan/evaluation", "Compares with a likelihood.")
    inside = Prerequisite("gan/challenges", "gan/evaluation", "Failures are what is measured.")
    store = NetworkXStore(replace(ATLAS, prerequisites=(*ATLAS.prerequisites, outside, inside)))
    searcher = Searcher(store, parts.encoder, parts.index)
    answer = Answerer(store, searcher).ask("what do I need to know before generative adversarial networks")
    assert answer.topic == "gan"
    assert [sentence.text for sentence in answer.sentences] == ["Evidence Lower Bound: Compares with a likelihood."]


def test_prerequisites_are_those_of_the_place_that_leads_its_concept(parts: Parts) -> None:
    leading = ConceptGroup(("diffusion/forward", "gan/challenges/mode-collapse"))
    edge = Prerequisite("vae/latent", "diffusion/forward", "It starts from one.")
    store = NetworkXStore(replace(ATLAS, prerequisites=(edge,), concepts=(leading,)))
    searcher = Searcher(store, parts.encoder, parts.index)
    for question in ("prerequisites of mode collapse", "prerequisites of the forward process"):
        answer = Answerer(store, searcher).ask(question)
        assert answer.topic == "diffusion/forward"
        assert [sentence.text for sentence in answer.sentences] == ["Latent Vector: It starts from one."]
