import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import CorpusError, Outline, Problem, parse_outline, read_outline, write_outline
from ingest.outline import MAX_BYTES, Format, OutlineTopic
from ingest.slug import sibling_slugs, slug

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "topics.tsv"
FORMATS: list[Format] = ["tree", "indent", "markdown", "opml"]


def essence(outline: Outline) -> list[tuple[int, bool, str, str, tuple[str, ...]]]:
    """What must survive a round trip: everything but line numbers."""
    return [(t.depth, t.starred, t.id, t.title, t.title_path) for t in outline.topics]


def test_the_shipped_outline_reads_as_the_golden_file_says() -> None:
    with GOLDEN.open(encoding="utf-8") as file:
        golden = [tuple(row) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    found = [
        (str(t.line), str(t.depth), str(int(t.starred)), t.id, t.title, " > ".join(t.title_path))
        for t in read_outline(ROOT / "corpus" / "outline.txt").topics
    ]
    assert len(found) == 2063
    assert found == golden


@pytest.mark.parametrize("kind", FORMATS)
def test_the_shipped_outline_survives_every_format(kind: Format) -> None:
    outline = read_outline(ROOT / "corpus" / "outline.txt")
    again = parse_outline(write_outline(outline, kind).encode())
    assert again.title == outline.title
    assert essence(again) == essence(outline)


anything = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=12)
tricky = st.text(" -*+#│├└─|<>\\\"'&1.)a:`[]", max_size=8)
titles = st.one_of(anything, tricky, st.sampled_from(["Loss", "Loss (G)", "Loss (D)", "Définition", "√dₖ"])).map(
    lambda text: " ".join(text.split())
)


@st.composite
def outlines(draw: st.DrawFn) -> Outline:
    """A random outline; its topics have no ids yet."""
    topics: list[OutlineTopic] = []
    depth = -1
    for _ in range(draw(st.integers(1, 25))):
        depth = draw(st.integers(0, min(depth + 1, 6)))
        topics.append(OutlineTopic(0, depth, draw(st.booleans()), "", draw(titles.filter(bool)), ()))
    return Outline(draw(titles), tuple(topics))


@given(outlines(), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_a_random_outline_survives_every_format(outline: Outline, kind: Format, other: Format) -> None:
    once = parse_outline(write_outline(outline, kind).encode())
    assert once.title == outline.title
    assert [(t.depth, t.starred, t.title) for t in once.topics] == [
        (t.depth, t.starred, t.title) for t in outline.topics
    ]
    twice = parse_outline(write_outline(once, other).encode())
    assert essence(twice) == essence(once)


@given(outlines(), st.sampled_from(FORMATS))
def test_what_was_written_is_written_again_byte_for_byte(outline: Outline, kind: Format) -> None:
    text = write_outline(outline, kind)
    assert write_outline(parse_outline(text.encode()), kind) == text


def outcome(data: bytes) -> tuple[Outline, Sequence[Problem]]:
    """What reading gives: an outline, or the problems that it has."""
    try:
        return parse_outline(data), ()
    except CorpusError as error:
        return Outline("", ()), error.problems


@given(st.binary(max_size=200))
def test_any_bytes_are_an_outline_or_clear_problems(data: bytes) -> None:
    outline, problems = outcome(data)
    assert outline.topics or problems
    assert all(problem.line >= 1 and problem.what for problem in problems)


@given(st.lists(st.sampled_from(["## A", "├── B", "│   └── C", "  d", "\te", "- f", "### g", "", "│", "<opml>"])))
def test_any_lines_are_an_outline_or_clear_problems(lines: list[str]) -> None:
    outline, problems = outcome("\n".join(lines).encode())
    assert outline.topics or problems
    assert all(1 <= problem.line <= max(1, len(lines)) for problem in problems)


@given(outlines())
def test_ids_are_unique_and_follow_the_hierarchy(outline: Outline) -> None:
    topics = parse_outline(write_outline(outline).encode()).topics
    ids = [topic.id for topic in topics]
    assert len(set(ids)) == len(ids)
    seen: set[str] = set()
    for topic in topics:
        assert topic.parent is None or topic.parent in seen
        assert topic.id.count("/") == topic.depth
        seen.add(topic.id)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Scaling by √dₖ", "scaling-by-sqrt-dk"),
        ("KL Divergence", "kl-divergence"),
        ("Noise Schedule (βₜ)", "noise-schedule-beta-t"),
        ("Encoder ↔ Decoder", "encoder-to-decoder"),
        ("Naïve Bayes & Co", "naive-bayes-and-co"),
        ("R² = 95%", "r-squared-equals-95-percent"),
        ("16 × 16", "16-x-16"),
    ],
)
def test_signs_are_spelled_in_slugs(title: str, expected: str) -> None:
    assert slug(title) == expected


def test_parenthesised_parts_count_only_where_siblings_would_read_alike() -> None:
    assert sibling_slugs(["Variance (σ²)", "Mean"]) == ["variance", "mean"]
    assert sibling_slugs(["Loss (G)", "Loss (D)"]) == ["loss-g", "loss-d"]
    assert sibling_slugs(["Loss", "Loss", "Loss"]) == ["loss", "loss-2", "loss-3"]


def problems_of(text: str | bytes) -> list[tuple[int, str, str]]:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(CorpusError) as caught:
        parse_outline(data, "my.txt")
    assert all(problem.file == "my.txt" for problem in caught.value.problems)
    return [(problem.line, problem.what, problem.instead) for problem in caught.value.problems]


def test_a_skipped_level_is_reported_with_its_line_and_the_way_out() -> None:
    ((line, what, instead),) = problems_of("## A\n├── B\n│   │   └── C\n")
    assert (line, what) == (3, "a skipped level: level 3 under level 1")
    assert instead == "Move it to level 2, or give it the parent that is missing."


def test_all_problems_of_a_file_are_reported_at_once() -> None:
    found = problems_of("## A\n├── B\n│   │   └── C\n├── \n\t├── D\n├─ E\n nonsense\n")
    assert [line for line, _, _ in found] == [3, 4, 5, 7]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "no topic found"),
        ("# Only a title\n", 1, "no topic found"),
        ("├── B\n", 1, "a topic before any section"),
        ("## \n├── B\n", 1, "a topic without a title"),
        ("## A\n├── *\n", 2, "a topic without a title"),
        ("## A\n\t├── B\n", 2, "a tab in the tree"),
        ("## A\n   ├── B\n", 2, "this is no line of the tree"),
        ("## A\n  B\n    C\n   D\n", 4, "3 columns of indentation fit no level"),
        ("## A\n    B\n \tC\n", 3, "tabs and spaces mixed in the indentation"),
        ("## A\n- B\nprose\n", 3, "neither a heading nor a bullet"),
        ("## A\n#### B\n", 2, "a skipped level"),
        ("## A\n├── " + "x" * 501 + "\n", 2, "a title of 501 characters"),
        (b"\x00\x01binary", 1, "this is a binary file"),
        (b"## A\n\xe9\n", 2, "byte 0xe9 is not UTF-8"),
        ("<opml><body><outline text='A'>", 1, "not well-formed XML"),
        ("<opml><body><outline text=''/></body></opml>", 1, "a topic without a title"),
        ("<!DOCTYPE x [<!ENTITY a 'aa'>]><opml/>", 1, "a document type or entity declaration"),
    ],
)
def test_each_kind_of_bad_outline_says_what_and_where(text: str | bytes, line: int, what: str) -> None:
    found = problems_of(text)
    assert found[0][0] == line
    assert what in found[0][1]


def test_an_outline_that_is_too_deep_is_refused() -> None:
    deep = "".join("  " * level + "- x\n" for level in range(40))
    assert any("deeper than 32 levels" in what for _, what, _ in problems_of("## A\n" + deep))


def test_a_file_that_is_not_there_is_one_clear_problem(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        read_outline(tmp_path / "none.txt")


def test_an_outline_by_indentation_reads_like_the_tree() -> None:
    tree = "## A\n├── B*\n│   └── C\n└── D\n"
    indented = "## A\n  B*\n    C\n  D\n"
    tabs = "## A\n\tB*\n\t\tC\n\tD\n"
    markdown = "## A\n### B*\n- C\n### D\n"
    expected = essence(parse_outline(tree.encode()))
    for other in (indented, tabs, markdown):
        assert essence(parse_outline(other.encode())) == expected


def test_letters_of_other_scripts_stay_in_ids_and_latin_ones_fold() -> None:
    assert slug("Введение в ML") == "введение-в-ml"
    assert slug("机器学习") == "机器学习"
    assert slug("हिन्दी भाषा") == "हिन्दी-भाषा"
    assert slug("Łódź, Straße") == "lodz-strasse"
    assert sibling_slugs(["***", "…"]) == ["topic", "topic-2"]


def test_many_siblings_of_one_title_are_numbered_without_a_gap() -> None:
    assert sibling_slugs(["Loss", "Loss 2", "Loss", "Loss"]) == ["loss", "loss-2", "loss-3", "loss-4"]


def test_a_form_feed_ends_no_line() -> None:
    assert problems_of("## A\n├── B\x0cC\n\t├── D\n")[0][0] == 3


def test_a_title_may_end_with_a_star_of_its_own() -> None:
    (_, search, starred) = parse_outline(b"## A\n- A\\*\n- C\\**\n").topics
    assert (search.title, search.starred) == ("A*", False)
    assert (starred.title, starred.starred) == ("C*", True)


def test_a_message_lists_the_first_problems_and_counts_the_rest() -> None:
    with pytest.raises(CorpusError) as caught:
        parse_outline(b"## A\n" + b"\t- x\n    - y\n \t- z\n" * 300, "my.txt")
    assert len(caught.value.problems) > 200
    assert str(caught.value).splitlines()[-2] == f"… and {len(caught.value.problems) - 200} more"


def test_an_outline_over_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    path.write_bytes(b"## A\n" + b"- x\n" * (MAX_BYTES // 4))
    with pytest.raises(CorpusError, match="too large: at most 16,777,216 bytes"):
        read_outline(path)


def test_the_tree_is_written_with_a_bar_wherever_a_sibling_follows() -> None:
    text = "# T\n\n## A\n├── B*\n│   ├── C\n│   │   └── D\n│   └── E\n└── F\n    └── G\n\n## H\n└── I\n"
    assert write_outline(parse_outline(text.encode())) == text


def test_the_foundations_are_kept_in_the_form_that_is_written() -> None:
    path = ROOT / "corpus" / "foundations.txt"
    assert write_outline(read_outline(path)) == path.read_text(encoding="utf-8")
