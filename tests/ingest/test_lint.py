from pathlib import Path

import pytest

from ingest import lint, read_corpus_with_places
from tests.ingest.folders import ROOT, corpus

SUMMARY = " ".join(f"word{number}" for number in range(50))
WORK = "@misc{k, title = {T}, eprint = {1312.6114}}\n"


def entry(topic: str, **keys: str) -> str:
    """A topic's entry without anything to remark on, except for these keys; an empty one is left out."""
    whole = {
        "summary": f"{SUMMARY} about {topic}",
        "detail": "A worked example.",
        "questions": "[why does it work]",
        "level": "beginner",
        "minutes": "5",
        "outcomes": "[Explain it.]",
        "refs": "[k]",
    }
    lines = "".join(f"  {key}: {value}\n" for key, value in {**whole, **keys}.items() if value)
    return f"- id: {topic}\n{lines}"


def needs(topic: str, *edges: str) -> str:
    """An entry of prerequisites alone."""
    return f"- id: {topic}\n  prerequisites:\n" + "".join(f"  - {{{edge}}}\n" for edge in edges)


def remarks_on(folder: Path, but: str = "no summary yet") -> list[str]:
    """The first lines of the remarks, those with `but` left out."""
    remarks = lint(read_corpus_with_places(folder))
    return [str(remark).split("\n")[0] for remark in remarks if but not in remark.what]


def test_a_whole_entry_has_nothing_to_remark_on(tmp_path: Path) -> None:
    assert remarks_on(corpus(tmp_path, topics__alpha__two_yaml=entry("alpha/two"), references_bib=WORK)) == []


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("summary", "Too short.", 'the summary of "Two" has 2 words'),
        ("summary", "word " * 111, 'the summary of "Two" has 111 words'),
        ("summary", f"{SUMMARY} leverages it", '"leverages" in "Two"'),
        ("misconception", "Various things.", '"various" in "Two"'),
        ("questions", "[What is two?]", '"Two" has no question in other words than its title'),
        ("questions", "", '"Two" has no question in other words than its title'),
        ("detail", "", '"Two" has no detail'),
        ("outcomes", "", '"Two" has no outcomes'),
        ("level", "", '"Two" has no level'),
        ("minutes", "", '"Two" has no minutes'),
        ("refs", "", '"Two" has no refs'),
        ("aliases", "[TWO]", 'the alias "TWO" is the title itself'),
        ("as_of", "2024-12", '"alpha/two" is as of 2024-12'),
    ],
)
def test_each_gap_in_an_entry_is_remarked_at_its_place(tmp_path: Path, key: str, value: str, what: str) -> None:
    folder = corpus(tmp_path, topics__alpha__two_yaml=entry("alpha/two", **{key: value}), references_bib=WORK)
    found = [remark for remark in remarks_on(folder) if not remark.endswith('"k" is cited nowhere')]
    assert found == [f"topics/alpha/two.yaml:1: {what}"]


def test_filler_is_a_word_of_its_own(tmp_path: Path) -> None:
    summary = f"{SUMMARY} a powerfully covariousness"
    folder = corpus(tmp_path, topics__alpha__two_yaml=entry("alpha/two", summary=summary), references_bib=WORK)
    assert remarks_on(folder) == []


def test_near_duplicates_are_found_and_different_summaries_are_not(tmp_path: Path) -> None:
    changed = SUMMARY.replace("word20 ", "").replace("word30", "other")
    different = " ".join(f"text{number}" for number in range(50))
    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml=entry("alpha/one", summary=SUMMARY),
        topics__alpha__two_yaml=entry("alpha/two", summary=different),
        topics__beta__three_yaml=entry("beta/three", summary=changed),
        references_bib=WORK,
    )
    assert remarks_on(folder) == [
        'topics/beta/three.yaml:1: the summaries of "beta/three" and "alpha/one" are nearly the same'
    ]


def test_a_short_summary_inside_a_long_one_is_a_near_duplicate(tmp_path: Path) -> None:
    longer = f"{SUMMARY} {' '.join(f'more{number}' for number in range(60))}"
    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml=entry("alpha/one", summary=SUMMARY),
        topics__alpha__two_yaml=entry("alpha/two", summary=longer),
        references_bib=WORK,
    )
    assert remarks_on(folder) == [
        'topics/alpha/two.yaml:1: the summaries of "alpha/two" and "alpha/one" are nearly the same'
    ]


def test_an_alias_belongs_to_one_topic_or_one_concept_group(tmp_path: Path) -> None:
    def folder(name: str, **more: str) -> Path:
        (tmp_path / name).mkdir()
        return corpus(
            tmp_path / name,
            topics__alpha__two_yaml="- id: alpha/two\n  aliases: [MHA]\n",
            topics__beta__three_yaml="- id: beta/three\n  aliases: [mha]\n",
            **more,
        )

    assert remarks_on(folder("apart")) == [
        'topics/beta/three.yaml:1: the alias "mha" of "beta/three" belongs to "alpha/two" already'
    ]
    assert remarks_on(folder("twins", concepts_yaml="- [alpha/two, beta/three]\n")) == []


def test_a_reason_says_more_than_the_titles_and_fits_one_edge(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml=needs("alpha/one", "topic: beta, why: One needs the Beta."),
        topics__alpha__two_yaml=needs("alpha/two", "topic: beta, why: Its sum starts there."),
        topics__beta__three_yaml=needs("beta/three", "topic: alpha/one, why: Its sum starts there."),
    )
    assert remarks_on(folder) == [
        "topics/alpha/one.yaml:3: the reason only repeats the titles",
        "topics/beta/three.yaml:3: the same reason stands at topics/alpha/two.yaml:3",
    ]


def test_an_edge_that_others_imply_is_remarked(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha___section_yaml=needs("alpha", "topic: beta, why: Everything here adds up."),
        topics__alpha__one_yaml=needs("alpha/one", "topic: beta/three, why: The third case comes first."),
        topics__alpha__two_yaml=needs(
            "alpha/two",
            "topic: alpha/one, why: It starts where that ends.",
            "topic: beta/three, why: It is the third case again.",
            "topic: beta, why: It adds up too.",
        ),
    )
    assert remarks_on(folder) == [
        'topics/alpha/two.yaml:4: "beta/three" is implied already, through "alpha/one"',
        'topics/alpha/two.yaml:5: "beta" is needed already by the ancestor "alpha"',
    ]


def test_what_is_only_helpful_or_one_of_two_ways_implies_nothing(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml=needs(
            "alpha/one",
            "topic: beta/three, why: It helps to have seen three., strength: helpful",
        ),
        topics__alpha__two_yaml=needs(
            "alpha/two",
            "topic: alpha/one, why: It starts where that ends.",
            "topic: beta/three, why: It is the third case again.",
        ),
    )
    assert remarks_on(folder) == []
    folder = corpus(
        folder,
        topics__alpha__one_yaml=needs("alpha/one", "any_of: [beta/three, beta], why: Either will do."),
    )
    assert remarks_on(folder) == []


def test_the_stalest_facts_are_listed_and_no_more_than_ten(tmp_path: Path) -> None:
    years = range(2010, 2022)
    folder = corpus(
        tmp_path,
        outline_txt="## A\n└── B\n" + "".join(f"    ├── In {year}\n" for year in years),
        topics__a__b_yaml="".join(f"- id: a/b/in-{year}\n  as_of: {year}-06\n" for year in years),
    )
    assert (
        remarks_on(folder)
        == [
            f'topics/a/b.yaml:{1 + 2 * number}: "a/b/in-{year}" is as of {year}-06' for number, year in enumerate(years)
        ][:10]
    )


def test_topics_without_a_summary_are_counted_by_section_at_its_line(tmp_path: Path) -> None:
    folder = corpus(tmp_path, topics__alpha__two_yaml=entry("alpha/two"), references_bib=WORK)
    assert remarks_on(folder, but="nothing") == [
        'outline.txt:3: "alpha": 3 of 4 topics have no summary yet',
        'outline.txt:8: "beta": 2 of 2 topics have no summary yet',
    ]


def test_filler_in_a_comparison_is_remarked(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        comparisons__x_yaml="""\
            - id: one-or-two
              between: [alpha/one, alpha/two]
              question: Which?
              same: Both are powerful.
              aspects:
                - {name: size, values: [small, big]}
                - {name: cost, values: [low, high]}
              choose: Take one.
            """,
    )
    assert remarks_on(folder) == ['comparisons/x.yaml:1: "powerful" in "one-or-two"']


def test_every_remark_on_the_shipped_corpus_has_a_place_in_a_file() -> None:
    for remark in lint(read_corpus_with_places(ROOT / "corpus")):
        lines = (ROOT / "corpus" / remark.file).read_text(encoding="utf-8").splitlines()
        assert 1 <= remark.line <= len(lines), remark


def test_a_work_that_nothing_cites_is_remarked_on_with_its_line(tmp_path: Path) -> None:
    spare = "@misc{spare, title = {S}, eprint = {1312.6115}}\n"
    folder = corpus(tmp_path, topics__alpha__two_yaml=entry("alpha/two"), references_bib=WORK + spare)
    assert remarks_on(folder) == ['references.bib:2: "spare" is cited nowhere']
