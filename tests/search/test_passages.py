from dataclasses import replace

from search import Passage, passages_of
from tests.search.atlas import ATLAS


def of(topic_id: str) -> list[Passage]:
    return [passage for passage in passages_of(ATLAS) if passage.topic == topic_id]


def test_a_topic_without_text_is_found_by_its_place() -> None:
    assert [(p.field, p.text) for p in of("vae/losses")] == [
        ("title", "Loss Terms"),
        ("label", "Loss Terms (Variational Autoencoders (VAEs))"),
        ("path", "Variational Autoencoders (VAEs) > Loss Terms"),
    ]


def test_every_text_of_a_topic_is_a_passage() -> None:
    fields = [passage.field for passage in of("vae/elbo")]
    assert fields == ["title", "label", "path", "summary", "detail", "detail", "alias", "alias", "formula"]
    collapse = {passage.field: passage.text for passage in of("gan/challenges/mode-collapse")}
    assert collapse["misconception"].startswith("Mode Collapse: A low generator loss")
    assert collapse["look_at"] == "Mode Collapse: Count the modes that survive"
    assert collapse["question"] == "my generator makes the same face for every noise vector"


def test_the_abbreviation_in_a_title_is_an_alias() -> None:
    assert [p.text for p in of("gan/evaluation/fid") if p.field == "alias"] == ["FID"]
    assert [p.text for p in of("diffusion/forward/beta") if p.field == "alias"] == []


def test_a_detail_is_cut_between_paragraphs_and_nothing_of_it_is_lost() -> None:
    parts = [p.text.removeprefix("Evidence Lower Bound: ") for p in of("vae/elbo") if p.field == "detail"]
    elbo = next(topic for topic in ATLAS.topics if topic.id == "vae/elbo")
    assert "\n\n".join(parts) == elbo.detail


def test_passages_come_topic_by_topic_in_the_order_of_the_atlas() -> None:
    assert list(dict.fromkeys(passage.topic for passage in passages_of(ATLAS))) == [topic.id for topic in ATLAS.topics]


def test_a_changed_topic_changes_its_own_digests_only() -> None:
    changed = replace(
        ATLAS, topics=tuple(replace(t, summary="New.") if t.id == "vae/latent" else t for t in ATLAS.topics)
    )
    before = {(p.topic, p.field, p.digest) for p in passages_of(ATLAS)}
    after = {(p.topic, p.field, p.digest) for p in passages_of(changed)}
    assert {row[:2] for row in before ^ after} == {("vae/latent", "summary")}


def test_equal_texts_have_equal_digests() -> None:
    kl = [p.digest for topic in ("vae/losses/kl", "foundations/kl") for p in of(topic) if p.field == "title"]
    assert kl[0] == kl[1]
