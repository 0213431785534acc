import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from graph import Atlas, ConceptGroup, NetworkXStore, TopicNotFound
from search import EmptyQuery, Filters, LexicalIndex, QueryTooLong, Ranking, Searcher
from search.dense import DenseIndex
from search.passage_index import PassageIndex
from search.searcher import LONGEST_QUERY
from tests.search.atlas import ATLAS
from tests.search.conftest import Parts


def ids(ranking: Ranking) -> list[str]:
    return [hit.topic.id for hit in ranking.hits]


@pytest.mark.parametrize(
    ("query", "topic"),
    [
        ("mode collapse", "gan/challenges/mode-collapse"),
        ("the generator makes only a few kinds of samples", "gan/challenges/mode-collapse"),
        ("variational lower bound", "vae/elbo"),
        ("add Gaussian noise to pictures, a little at each step", "diffusion/forward"),
        ("beta_t", "diffusion/forward/beta"),
        ("βₜ", "diffusion/forward/beta"),
        ("√dk", "attention/scaling"),
        ("sqrt(d_k)", "attention/scaling"),
        ("alpha_t", "diffusion/forward/alpha-bar"),
        ("cyclegan", "attention/cyclegan-note"),
        ("FID", "gan/evaluation/fid"),
        ("mode colapse", "gan/challenges/mode-collapse"),
        ("evidencelowerbound", "vae/elbo"),
    ],
)
def test_the_topic_that_is_meant_comes_first(searcher: Searcher, query: str, topic: str) -> None:
    assert ids(searcher.search(query))[0] == topic


def test_hits_are_ranked_and_each_topic_stands_once(searcher: Searcher) -> None:
    hits = searcher.search("noise in a generator", k=8).hits
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.topic.id for hit in hits}) == len(hits)


def test_k_bounds_the_hits(searcher: Searcher) -> None:
    assert len(searcher.search("loss", k=2).hits) == 2
    assert searcher.search("loss", k=0).hits == ()


def test_a_hit_tells_the_passage_and_the_reasons(searcher: Searcher) -> None:
    hit = searcher.search("variational lower bound").hits[0]
    assert (hit.passage.topic, hit.passage.field, hit.passage.text) == ("vae/elbo", "alias", "variational lower bound")
    assert hit.reasons == ("meaning 1.00", "words: variational, lower, bound")


def test_a_symbol_is_told_as_one(searcher: Searcher) -> None:
    reasons = searcher.search("what is βₜ").hits[0].reasons
    assert "symbol: βₜ" in reasons


def test_twins_fold_into_one_hit_that_lists_its_other_places(searcher: Searcher) -> None:
    ranking = searcher.search("KL divergence")
    places = {"vae/losses/kl", "foundations/kl"}
    found = [hit for hit in ranking.hits if hit.topic.id in places]
    assert len(found) == 1
    assert {found[0].topic.id, *found[0].twins} == places


def test_folding_frees_a_place_for_the_next_topic(parts: Parts) -> None:
    everything = replace(ATLAS, concepts=(ConceptGroup(tuple(topic.id for topic in ATLAS.topics[:10])),))
    searcher = Searcher(NetworkXStore(everything), parts.encoder, parts.index)
    hits = searcher.search("the generator and the discriminator of a GAN", k=5).hits
    assert len(hits) == 5
    assert sum(bool(hit.twins) for hit in hits) == 1


@pytest.mark.parametrize(
    "filters",
    [
        Filters(section="vae"),
        Filters(subtree="vae/losses"),
        Filters(level="advanced"),
        Filters(starred=True),
        Filters(starred=False),
        Filters(section="vae", level="intermediate"),
    ],
)
def test_filters_admit_only_what_meets_them_and_miss_none_of_it(searcher: Searcher, filters: Filters) -> None:
    admitted = {topic.id for topic in ATLAS.topics if filters.admits(topic)}
    ranking = searcher.search("KL divergence", k=50, filters=filters)
    found = {place for hit in (*ranking.hits, *ranking.nearest) for place in (hit.topic.id, *hit.twins)}
    assert {hit.topic.id for hit in ranking.hits} <= admitted
    assert ranking.abstained or admitted <= found


def test_a_filter_by_an_unknown_topic_is_an_error(searcher: Searcher) -> None:
    with pytest.raises(TopicNotFound):
        searcher.search("loss", filters=Filters(subtree="vae/nothing"))


@pytest.mark.parametrize("query", ["how do I bake bread", "cheap flights to Lisbon", "who won the cup final"])
def test_a_foreign_question_gets_no_hit_and_hears_what_is_nearest(searcher: Searcher, query: str) -> None:
    ranking = searcher.search(query)
    assert ranking.abstained
    assert ranking.hits == ()
    assert len(ranking.nearest) == 3


def test_words_of_a_path_are_no_name(searcher: Searcher) -> None:
    named, mixed = searcher.search("evidence lower bound"), searcher.search("collapse of networks")
    assert named.evidence == math.inf
    assert mixed.evidence < math.inf


def test_a_compound_with_an_unknown_part_is_taken_apart(searcher: Searcher) -> None:
    assert searcher.search("what is ModeCollapseand why").corrections == (("ModeCollapseand", "mode collapse and"),)


def test_a_correction_is_told(searcher: Searcher) -> None:
    assert searcher.search("mode colapse").corrections == (("colapse", "collapse"),)
    assert searcher.search("mode collapse").corrections == ()


def test_search_by_words_alone_says_so(words_only: Searcher, searcher: Searcher) -> None:
    ranking = words_only.search("mode collapse")
    assert ranking.meaning_off
    assert ids(ranking)[0] == "gan/challenges/mode-collapse"
    assert ranking.hits[0].reasons == ("words: mode, collapse",)
    assert words_only.search("how do I bake bread").abstained
    assert not searcher.search("mode collapse").meaning_off


@pytest.mark.parametrize("query", ["", "   ", "?!", "\n"])
def test_an_empty_query_is_refused(searcher: Searcher, query: str) -> None:
    with pytest.raises(EmptyQuery, match="The query is empty"):
        searcher.search(query)


def test_a_query_of_any_length_up_to_the_limit_is_searched(searcher: Searcher) -> None:
    assert searcher.search("loss " * (LONGEST_QUERY // 5)).query
    with pytest.raises(QueryTooLong, match=r"has 1,001 characters, and at most 1,000"):
        searcher.search("x" * (LONGEST_QUERY + 1))


@pytest.mark.parametrize("query", ["\x00", "a" * 999, "\ud83e\udd16 robots", "'; DROP TABLE topics; --", "مرحبا", "½"])
def test_odd_queries_do_no_harm(searcher: Searcher, query: str) -> None:
    try:
        searcher.search(query)
    except EmptyQuery:
        assert not any(sign.isalnum() for sign in query)


def test_what_does_not_belong_together_is_refused(parts: Parts) -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        PassageIndex(ATLAS.topics, parts.passages[:-1], parts.dense, parts.lexical)
    with pytest.raises(ValueError, match="topic by topic"):
        PassageIndex(ATLAS.topics, parts.passages[::-1], parts.dense, parts.lexical)


def test_an_atlas_without_topics_declines_everything(parts: Parts) -> None:
    dense = DenseIndex.build(parts.encoder.encode([]))
    empty = Searcher(
        NetworkXStore(Atlas("Empty", ())), parts.encoder, PassageIndex((), [], dense, LexicalIndex.build([]))
    )
    assert empty.search("mode collapse").abstained
    assert empty.search("mode collapse").nearest == ()


def test_passages_of_one_topic_come_nearest_first(searcher: Searcher) -> None:
    found = searcher.passages_about("gradient estimator along the path of the noise", "vae/latent")
    assert {passage.topic for passage, _ in found} == {"vae/latent"}
    assert found[0][0].field == "summary"
    assert [near for _, near in found] == sorted((near for _, near in found), reverse=True)


def test_threads_get_the_answers_of_one(searcher: Searcher) -> None:
    queries = ["mode collapse", "βₜ", "lower bound", "noise schedule", "mode colapse"] * 6
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(searcher.search, queries)) == [searcher.search(query) for query in queries]


LIGHT = """
import sys
from pathlib import Path
import search
assert not {"faiss", "onnxruntime", "bm25s", "torch"} & set(sys.modules), "import search is not light"
from graph import NetworkXStore
from search.dense import DenseIndex
from search.encoder import Encoder
from search.passage_index import PassageIndex
from tests.search.atlas import ATLAS
folder = Path(sys.argv[2])
passages = search.passages_of(ATLAS)
searcher = search.Searcher(
    NetworkXStore(ATLAS), Encoder(Path(sys.argv[1]), "int8"),
    PassageIndex(ATLAS.topics, passages, DenseIndex.load(folder / "vectors"), search.LexicalIndex.load(folder)),
)
assert searcher.search("mode collapse").hits[0].topic.id == "gan/challenges/mode-collapse"
assert search.Answerer(searcher._store, searcher).ask("mode collapse").sentences
heavy = {"torch", "transformers", "sentence_transformers", "bm25s", "scipy", "onnx", "networkx"}
print(*sorted(heavy & set(sys.modules)))
"""


def test_a_search_loads_neither_torch_nor_what_only_a_build_needs(
    parts: Parts, model: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("index")
    parts.lexical.save(folder)
    parts.dense.save(folder / "vectors")
    command = [sys.executable, "-c", LIGHT, str(model), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
