"""JSON-LD as another library understands it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdflib import RDF, SKOS, Graph, Namespace, URIRef

from graph import Atlas, Comparison, NetworkXStore, Prerequisite, Reference, to_jsonld
from graph.jsonld import LinkedData, link_iri, page_under, urn_of
from tests.graph.atlases import ATLAS, atlas_of, atlases

SCHEMA = Namespace("https://schema.org/")
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # of rdflib, by its own parser


def read(data: bytes) -> Graph:
    return Graph().parse(data=data, format="json-ld")


def iri(topic_id: str) -> URIRef:
    return URIRef(urn_of("topics", topic_id))


def pairs(graph: Graph, predicate: URIRef) -> set[tuple[str, str]]:
    return {(str(subject), str(value)) for subject, value in graph.subject_objects(predicate)}


@given(atlases(topics_at_most=8))
def test_the_outline_the_twins_and_every_reason_come_through(atlas: Atlas) -> None:
    graph = read(to_jsonld(atlas))
    parents = {(str(iri(topic.id)), str(iri(topic.parent))) for topic in atlas.topics if topic.parent}
    assert pairs(graph, SKOS.broader) == parents
    assert pairs(graph, SKOS.narrower) == {(parent, child) for child, parent in parents}
    twins = {(one, other) for group in atlas.concepts for one in group.topics for other in group.topics if one != other}
    assert pairs(graph, SKOS.exactMatch) == {(str(iri(one)), str(iri(other))) for one, other in twins}
    reasons = {
        (str(after), str(graph.value(edge, SCHEMA.targetUrl)), str(graph.value(edge, SCHEMA.description)))
        for after, edge in graph.subject_objects(SCHEMA.educationalAlignment)
    }
    assert reasons == {(str(iri(edge.after)), str(iri(edge.before)), edge.why) for edge in atlas.prerequisites}


@given(atlases(topics_at_most=8))
def test_a_competency_is_required_wherever_it_is_needed_by_itself(atlas: Atlas) -> None:
    store = NetworkXStore(atlas)
    needed = {
        (str(iri(topic.id)), str(iri(edge.before)))
        for topic in atlas.topics
        for edge in store.effective_prerequisites(topic.id)
        if edge.strength == "needed" and edge.group is None
    }
    assert pairs(read(to_jsonld(atlas)), SCHEMA.competencyRequired) == needed


@given(atlases(topics_at_most=8), st.data())
def test_skos_is_kept_to(atlas: Atlas, data: st.DataObject) -> None:
    """Its integrity conditions S13, S14 and S27, with sides drawn from anywhere in the outline."""
    ids = [topic.id for topic in atlas.topics]
    sides = tuple(data.draw(st.lists(st.sampled_from(ids), unique=True, min_size=1, max_size=3)))
    topics = tuple(replace(topic, aliases=(topic.title, "another name")) for topic in atlas.topics)
    graph = read(to_jsonld(replace(atlas, topics=topics, comparisons=(Comparison("c", sides, "Which?", (), "", ""),))))
    for concept in graph.subjects(RDF.type, SKOS.Concept):
        labels = set(graph.objects(concept, SKOS.prefLabel))
        assert len(labels) == 1
        assert not labels & set(graph.objects(concept, SKOS.altLabel))
        above = set(graph.transitive_objects(concept, SKOS.broader)) | set(
            graph.transitive_subjects(SKOS.broader, concept)
        )
        assert not above & set(graph.objects(concept, SKOS.related))
    assert pairs(graph, SKOS.related) == {(other, one) for one, other in pairs(graph, SKOS.related)}


def test_everything_that_is_linked_is_described() -> None:
    graph = read(to_jsonld(ATLAS))
    for predicate in (SKOS.related, SKOS.exactMatch, SCHEMA.competencyRequired, SCHEMA.targetUrl, SCHEMA.about):
        for target in graph.objects(None, predicate):
            assert (target, RDF.type, SKOS.Concept) in graph
    for work in graph.objects(None, SCHEMA.citation):
        assert (work, RDF.type, SCHEMA.ScholarlyArticle) in graph
    demo = URIRef(urn_of("demos", "gan-demo"))
    assert (iri("gan/wgan"), SCHEMA.subjectOf, demo) in graph
    assert (demo, SCHEMA.about, iri("gan/dcgan")) in graph
    assert str(graph.value(iri("gan/wgan"), SCHEMA.timeRequired)) == "PT30M"
    assert (iri("gan/dcgan"), SKOS.related, iri("gan/wgan")) in graph


def test_an_alternative_is_no_requirement_of_its_own() -> None:
    edges = [Prerequisite(before, "c", "Either will do.", group="c#1") for before in ("a", "b")]
    graph = read(to_jsonld(atlas_of(["a", "b", "c"], *edges)))
    assert not pairs(graph, SCHEMA.competencyRequired)
    assert {str(kind) for kind in graph.objects(None, SCHEMA.alignmentType)} == {"requires one of"}


def test_a_published_site_names_the_topics_by_its_pages() -> None:
    graph = read(to_jsonld(ATLAS, "https://atlas.example/study/"))
    page = URIRef("https://atlas.example/study/topics/gan/wgan.html")
    assert (page, SKOS.broader, URIRef("https://atlas.example/study/topics/gan.html")) in graph
    assert (page, SKOS.inScheme, URIRef("https://atlas.example/study/")) in graph
    assert not [name for name in graph.subjects() if str(name).startswith("urn:")]


@pytest.mark.parametrize("link", ["https://doi.org/10.1002/(SICI)1097-4571<1::AID>3.0", "https://a.example/ä b", ""])
def test_any_link_and_any_id_make_an_iri(link: str) -> None:
    work = Reference("k", "A work", (), url=link)
    assert not set(link_iri(work)) & set(' <>"{}|\\^`')
    node = LinkedData(NetworkXStore(ATLAS), page_under("https://x.example")).reference(work)
    graph = read(json.dumps({"@context": {"@vocab": "https://schema.org/"}} | node).encode())
    assert [str(subject) for subject in graph.subjects(SCHEMA.name)] == [link_iri(work)]
    assert urn_of("topics", "über/a b") == "urn:genatlas:topics/%C3%BCber/a%20b"
