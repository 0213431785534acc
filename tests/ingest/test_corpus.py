import re
import shutil
from pathlib import Path
from textwrap import dedent

import pytest

from graph import Prerequisite
from ingest import CorpusError, read_corpus, read_corpus_with_places
from ingest.schema import write_schemas

ROOT = Path(__file__).resolve().parents[2]
OUTLINE = "# Test\n\n## Alpha\n├── One\n│   └── Deep\n└── Two\n\n## Beta\n└── Three\n"


def corpus(folder: Path, **files: str) -> Path:
    """A corpus of the test outline and these files; `__` in a name stands for a slash, `_yaml` for the ending."""
    (folder / "outline.txt").write_text(OUTLINE, encoding="utf-8")
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_bib", ".bib").replace(
            "_txt", ".txt"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return folder


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(CorpusError) as caught:
        read_corpus(folder)
    return [str(problem) for problem in caught.value.problems]


def test_the_shipped_corpus_has_no_problem_and_every_topic_of_the_outline() -> None:
    atlas = read_corpus(ROOT / "corpus")
    outline = [topic for topic in atlas.topics if topic.origin == "outline"]
    assert len(outline) == 2063
    assert sum(topic.starred for topic in outline) == 159
    assert sum(topic.depth == 0 for topic in outline) == 12
    assert sum(topic.parent is not None for topic in outline) == 2051
    assert [topic.position for topic in atlas.topics] == list(range(len(atlas.topics)))


def test_every_topic_of_the_shipped_corpus_has_a_demo_line() -> None:
    atlas = read_corpus(ROOT / "corpus")
    assert [topic.id for topic in atlas.topics if topic.demo is None] == []


def test_the_two_model_sections_and_the_foundations_are_written_in_full() -> None:
    authored = ("generative-ai-fundamentals", "variational-autoencoders", "foundations")
    for topic in read_corpus(ROOT / "corpus").topics:
        if topic.section in authored:
            assert topic.summary, topic.id
            assert topic.level, topic.id
            assert topic.minutes, topic.id
            assert len(topic.questions) >= 2, topic.id
            assert topic.refs, topic.id
            assert topic.detail or topic.depth > 2, topic.id
            assert topic.outcomes or topic.depth > 2, topic.id


def test_an_outline_alone_is_a_corpus(tmp_path: Path) -> None:
    atlas = read_corpus(corpus(tmp_path))
    assert [topic.id for topic in atlas.topics] == [
        "alpha",
        "alpha/one",
        "alpha/one/deep",
        "alpha/two",
        "beta",
        "beta/three",
    ]
    assert atlas.title == "Test"


def test_an_entry_fills_its_topic(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="""\
            - id: alpha/two
              summary: >
                A folded text
                over two lines.
              formula: x^2
              aliases: [deux]
              questions: [what is two, "why: two"]
              level: beginner
              minutes: 8
              prerequisites:
                - topic: beta/three
                  why: Two builds on three.
                  depth: gist
                - any_of: [alpha/one, alpha/one/deep]
                  why: Either will do.
                  strength: helpful
              refs: [kingma2013]
              as_of: 2025-09
              demo: {run: d1, with: {beta: 0.5, sizes: [1, 2]}, look_at: The curve.}
            """,
        references_bib="""\
            @misc{kingma2013,
              author = {Kingma, Diederik P. and M{\\"u}ller, J.},
              title = {{A Title}}, year = {2013}, eprint = {1312.6114}}
            """,
        demos_yaml="- {id: d1, title: Demo, question: Why?}\n",
    )
    atlas = read_corpus(folder)
    two = atlas.topics[3]
    assert two.summary == "A folded text over two lines."
    assert (two.level, two.minutes, two.as_of, two.refs) == ("beginner", 8, "2025-09", ("kingma2013",))
    assert two.demo is not None
    assert two.demo.params == {"beta": 0.5, "sizes": [1, 2]}
    group = "alpha/two#2"
    assert atlas.prerequisites == (
        Prerequisite("alpha/one", "alpha/two", "Either will do.", "helpful", group=group),
        Prerequisite("alpha/one/deep", "alpha/two", "Either will do.", "helpful", group=group),
        Prerequisite("beta/three", "alpha/two", "Two builds on three.", depth="gist"),
    )
    (work,) = atlas.references
    assert work.authors == ("Diederik P. Kingma", "J. Müller")
    assert work.link == "https://arxiv.org/abs/1312.6114"


def test_foundations_come_last_and_are_flagged(tmp_path: Path) -> None:
    atlas = read_corpus(corpus(tmp_path, foundations_txt="## Foundations\n└── Sums\n"))
    assert [(topic.id, topic.origin) for topic in atlas.topics[-2:]] == [
        ("foundations", "foundation"),
        ("foundations/sums", "foundation"),
    ]


def test_every_problem_of_every_file_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="""\
            - id: alpha/two
              sumary: A text.
              minutes: lots
            """,
        topics__beta__three_yaml="""\
            - id: beta/three
              prerequisites:
                - topic: alpha/tow
                  why: It is needed.
              refs: [kingma2014]
            """,
        references_bib="@misc{kingma2013, title = {A}, year = {2013}, eprint = {1312.6114}}\n",
    )
    assert problems_of(folder) == [
        'topics/alpha/two.yaml:2: unknown key "sumary"\n    did you mean "summary"?',
        "topics/alpha/two.yaml:3: minutes: Input should be a valid integer",
        'topics/beta/three.yaml:3: unknown topic "alpha/tow"\n    did you mean "alpha/two"?',
        'topics/beta/three.yaml:5: unknown reference "kingma2014"\n    did you mean "kingma2013"?',
    ]


@pytest.mark.parametrize(
    ("entry", "line", "what"),
    [
        ("- id: alpha/two\n  id: alpha/two\n", 2, 'the key "id" stands twice'),
        ("- id: beta/three\n", 1, '"beta/three" stands in the wrong file'),
        ("- id: alpha/two\n- id: alpha/two\n", 2, '"alpha/two" stands already at topics/alpha/two.yaml:1'),
        ("- id: alpha/two\n  as_of: 2025\n", 2, "as_of"),
        ("- id: alpha/two\n  level: easy\n", 2, "level"),
        ("- id: alpha/two\n  prerequisites:\n  - topic: beta\n", 3, '"why" is missing'),
        ("- id: alpha/two\n  prerequisites:\n  - why: So.\n", 3, "either `topic` or `any_of`"),
        ("- id: alpha/two\n  prerequisites:\n  - {topic: alpha, why: So.}\n", 3, "cannot need its own ancestor"),
        ("- id: alpha/two\n  prerequisites:\n  - {topic: alpha/two, why: So.}\n", 3, "cannot need itself"),
        ("- id: alpha/two\n  demo: {run: none, look_at: At it.}\n", 2, 'unknown demo "none"'),
        ("- id: alpha/two\n  demo: {run: none, look_at: At it., with: {a: {b: {c: 1}}}}\n", 2, "neither a number"),
        ("- id: &x alpha/two\n  summary: *x\n", 1, "an alias"),
        ("- id: alpha/two\n  summary: a: b\n", 2, "not valid YAML"),
        ("id: alpha/two\n", 1, "valid list"),
        ("- !!python/object/apply:os.system [ls]\n", 1, "dictionary"),
    ],
)
def test_each_kind_of_wrong_entry_says_what_and_where(tmp_path: Path, entry: str, line: int, what: str) -> None:
    found = problems_of(corpus(tmp_path, topics__alpha__two_yaml=entry))
    assert any(f"topics/alpha/two.yaml:{line}: " in each and what in each for each in found), found


def test_entries_keep_the_outlines_order(tmp_path: Path) -> None:
    folder = corpus(tmp_path, topics__alpha__one_yaml="- id: alpha/one/deep\n- id: alpha/one\n")
    assert problems_of(folder) == [
        'topics/alpha/one.yaml:2: "alpha/one" stands after a topic that follows it in the outline\n'
        "    Keep the outline's order."
    ]


def test_a_cycle_through_an_inherited_need_is_printed_as_the_path_it_is(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha___section_yaml="""\
            - id: alpha
              prerequisites:
                - {topic: beta/three, why: All of alpha uses three.}
            """,
        topics__beta__three_yaml="""\
            - id: beta/three
              prerequisites:
                - {topic: alpha/two, why: Three uses two.}
            """,
    )
    (only,) = problems_of(folder)
    assert "these prerequisites form a cycle" in only
    assert "beta/three → alpha (topics/alpha/_section.yaml:3)" in only
    assert "alpha/two → beta/three (topics/beta/three.yaml:3)" in only


def test_needing_a_topic_is_not_needing_its_subtopics(tmp_path: Path) -> None:
    """alpha/one/deep needs three, and three needs alpha/one, the parent: no cycle, since alpha/one needs nothing."""
    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml="- id: alpha/one/deep\n  prerequisites:\n  - {topic: beta/three, why: So.}\n",
        topics__beta__three_yaml="- id: beta/three\n  prerequisites:\n  - {topic: alpha/one, why: So.}\n",
    )
    assert len(read_corpus(folder).prerequisites) == 2


def test_twins_cannot_need_each_other(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="- id: alpha/two\n  prerequisites:\n  - {topic: beta/three, why: So.}\n",
        concepts_yaml="- [alpha/two, beta/three]\n",
    )
    assert "concepts.yaml says that they are one concept" in problems_of(folder)[0]


def test_a_comparison_answers_each_aspect_for_every_side(tmp_path: Path) -> None:
    wrong = """\
        - id: one-or-two
          between: [alpha/one, alpha/two]
          question: Which?
          same: Both count.
          aspects:
            - {name: size, values: [small]}
            - {name: cost, values: [low, high]}
          choose: Take one.
        """
    found = problems_of(corpus(tmp_path, comparisons__x_yaml=wrong))
    assert any("comparisons/x.yaml:6: values" in each for each in found), found


def test_a_topic_belongs_to_one_concept_group(tmp_path: Path) -> None:
    found = problems_of(corpus(tmp_path, concepts_yaml="- [alpha/one, alpha/two]\n- [alpha/two, beta/three]\n"))
    assert found == ['concepts.yaml:2: "alpha/two" belongs to a group already, at line 1\n    Join the two groups.']


def test_a_work_that_cannot_be_looked_up_is_a_problem(tmp_path: Path) -> None:
    found = problems_of(corpus(tmp_path, references_bib="\n@misc{a, title = {T}, year = {2000}}\n"))
    assert found[0].startswith('references.bib:2: "a" cannot be looked up')


def test_a_reference_key_stands_once(tmp_path: Path) -> None:
    twice = "@misc{a, title = {T}, eprint = {1}}\n@misc{a, title = {U}, eprint = {2}}\n"
    assert problems_of(corpus(tmp_path, references_bib=twice)) == ['references.bib:2: the key "a" stands twice']


def test_places_name_the_line_of_each_entry_and_edge(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="- id: alpha/two\n  prerequisites:\n  - topic: beta\n    why: So.\n",
    )
    read = read_corpus_with_places(folder)
    assert str(read.entries["alpha/two"].line) == "1"
    assert read.edges["beta", "alpha/two"].line == 3


def test_no_outline_and_two_outlines_are_told(tmp_path: Path) -> None:
    assert "no outline found" in problems_of(tmp_path)[0]
    folder = corpus(tmp_path)
    (folder / "outline.md").write_text("## A\n")
    assert "several outlines" in problems_of(folder)[0]


def test_the_schemas_for_editors_are_current(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_text() == (ROOT / "corpus" / "schema" / path.name).read_text(), path.name


def test_the_examples_of_the_authors_guide_are_valid(tmp_path: Path) -> None:
    guide = (ROOT / "corpus" / "README.md").read_text(encoding="utf-8")
    entry, comparison = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    folder = tmp_path / "corpus"
    shutil.copytree(ROOT / "corpus", folder, ignore=shutil.ignore_patterns("topics", "comparisons"))
    place = folder / "topics" / "variational-autoencoders" / "latent-space-properties.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(entry, encoding="utf-8")
    (folder / "comparisons").mkdir()
    (folder / "comparisons" / "guide.yaml").write_text(comparison, encoding="utf-8")
    atlas = read_corpus(folder)
    assert sum(bool(topic.summary) for topic in atlas.topics) == 1
    assert len(atlas.comparisons) == 1
