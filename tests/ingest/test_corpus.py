import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graph import NeighbouringField, Prerequisite
from ingest import read_corpus, read_corpus_with_places
from ingest.schema import write_schemas
from tests.ingest.folders import ROOT, corpus, problems_of


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
        "topics/alpha/two.yaml:3: minutes should be a valid integer\n    'lots' is not.",
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
        ("- id: alpha/two\n  prerequisites:\n  - topic: beta\n", 3, '"why" is missing\n    Write why: … (What here'),
        ("- id: alpha/two\n  prerequisites:\n  - why: So.\n", 3, "either `topic` or `any_of`"),
        ("- id: alpha/two\n  prerequisites:\n  - {topic: alpha, why: So.}\n", 3, "cannot need its own ancestor"),
        ("- id: alpha/two\n  prerequisites:\n  - {topic: alpha/two, why: So.}\n", 3, "cannot need itself"),
        ("- id: alpha/two\n  demo: {run: none, look_at: At it.}\n", 2, 'unknown demo "none"'),
        ("- id: alpha/two\n  demo: {run: none, look_at: At it., with: {a: {b: {c: 1}}}}\n", 2, "neither a number"),
        ("- id: &x alpha/two\n  summary: *x\n", 1, "an alias"),
        ("- id: alpha/two\n  summary: a: b\n", 2, "not valid YAML"),
        (
            "- id: alpha/two\n  questions: [one, two: three]\n",
            2,
            "questions should be a valid string\n    Quote the text",
        ),
        ("- id: alpha/two\n  aliases: [no]\n", 2, 'YAML reads no as false\n    Write false, or "no" if it is meant'),
        ("- id: alpha/two\n  minutes: 010\n", 2, "YAML reads 010 as 8"),
        ("- id: alpha/two\n  minutes: 1:30\n", 2, "YAML reads 1:30 as 90"),
        ("- id: alpha/two\n  demo: {run: d, look_at: It., with: {lr: 1e-4}}\n", 2, "Write 1.0e-4 for the number"),
        ("- id: alpha/two\n  demo: {run: d, look_at: It., with: {lr: .nan}}\n", 2, ".nan is not a finite number"),
        ("- id: alpha/two\n  demo: {run: d, lookat: It.}\n", 2, 'unknown key "lookat"\n    did you mean "look_at"?'),
        ("- id: alpha/two\n  as_of: 2025-13-01\n", 2, 'as_of "2025-13-01" has another form than it should'),
        ("- id: alpha/two\n  minutes: !!int abc\n", 2, '"abc" is no number'),
        ("- id: alpha/two\n  minutes: " + "9" * 5000 + "\n", 2, "is no number that can be read"),
        ("- id: alpha/two\n  formula: \\frac{a}{b\n", 2, "formula: { is never closed"),
        ("- id: alpha/two\n  detail: It costs $5.\n", 2, "detail: a $ without its partner"),
        ("- id: alpha/two\n  refs: [k, k]\n", 2, 'the reference "k" stands twice'),
        (
            "- id: alpha/two\n  prerequisites:\n  - {topic: beta, why: So.}\n  - {topic: beta, why: Thus.}\n",
            4,
            '"beta" is needed already at topics/alpha/two.yaml:3',
        ),
        ("id: alpha/two\n", 1, "this is no list of entries"),
        ("- alpha/two\n", 1, "an entry should be keys with values"),
        ("- id: alpha/two\n---\n- id: alpha/two\n", 2, "another document\n    Remove the line ---"),
    ],
)
def test_each_kind_of_wrong_entry_says_what_and_where(tmp_path: Path, entry: str, line: int, what: str) -> None:
    demos = "- {id: d, title: D, question: Why?}\n"
    work = "@misc{k, title = {T}, eprint = {1312.6114}}\n"
    found = problems_of(corpus(tmp_path, topics__alpha__two_yaml=entry, demos_yaml=demos, references_bib=work))
    assert any(f"topics/alpha/two.yaml:{line}: " in each and what in each for each in found), found


def test_entries_keep_the_outlines_order(tmp_path: Path) -> None:
    folder = corpus(tmp_path, topics__alpha__one_yaml="- id: alpha/one/deep\n- id: alpha/one\n")
    assert problems_of(folder) == [
        'topics/alpha/one.yaml:2: "alpha/one" stands after "alpha/one/deep", which follows it in the outline\n'
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
    assert problems_of(folder) == [
        "topics/beta/three.yaml:3: these prerequisites form a cycle: "
        "alpha/two → beta/three (topics/beta/three.yaml:3) → alpha/two (topics/alpha/_section.yaml:3, through alpha)\n"
        "    Remove one of them. The place of each arrow stands behind its end."
    ]


def test_every_knot_of_prerequisites_is_reported_by_its_shortest_cycle(tmp_path: Path) -> None:
    def need(topic: str, *befores: str) -> str:
        edges = "".join(f"  - {{topic: {before}, why: So.}}\n" for before in befores)
        return f"- id: {topic}\n  prerequisites:\n{edges}"

    folder = corpus(
        tmp_path,
        topics__alpha__one_yaml=need("alpha/one", "alpha/two") + need("alpha/one/deep", "beta/three"),
        topics__alpha__two_yaml=need("alpha/two", "beta"),
        topics__beta___section_yaml=need("beta", "alpha/two", "alpha/one"),
        topics__beta__three_yaml=need("beta/three", "alpha/one/deep"),
    )
    # beta and alpha/two are also joined the long way, through alpha/one; beta/three is needed by neither of them
    assert [problem.split(": ")[-1].split("\n")[0] for problem in problems_of(folder)] == [
        "alpha/two → beta (topics/beta/_section.yaml:3) → alpha/two (topics/alpha/two.yaml:3)",
        "alpha/one/deep → beta/three (topics/beta/three.yaml:3) → alpha/one/deep (topics/alpha/one.yaml:6)",
    ]


def test_alternatives_count_for_a_cycle(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="- id: alpha/two\n  prerequisites:\n  - {any_of: [beta/three, alpha/one], why: So.}\n",
        topics__beta__three_yaml="- id: beta/three\n  prerequisites:\n"
        "  - {topic: alpha/two, why: So., strength: helpful}\n",
    )
    (only,) = problems_of(folder)
    assert "cycle: alpha/two → beta/three (topics/beta/three.yaml:3) → alpha/two (topics/alpha/two.yaml:3)" in only


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
            - {name: size, values: [small, big]}
            - {name: cost, values: [low, high, higher]}
          choose: Take one.
        """
    assert problems_of(corpus(tmp_path, comparisons__x_yaml=wrong)) == [
        'comparisons/x.yaml:7: "cost" has 3 values for 2 sides\n    Write one value a side, in their order.'
    ]


def test_a_comparison_has_different_known_sides_and_a_name_of_its_own(tmp_path: Path) -> None:
    one = """\
        - id: same
          between: [{sides}]
          question: Which?
          same: Both count.
          aspects:
            - {{name: size, values: [small, big], measured: {{demo: d, metric: m}}}}
            - {{name: cost, values: [low, high]}}
          choose: Take one.
        """
    first, second = one.format(sides="alpha/one, alpha/one"), one.format(sides="alpha/one, alpha/too")
    assert problems_of(corpus(tmp_path, comparisons__a_yaml=first, comparisons__b_yaml=second)) == [
        'comparisons/a.yaml:2: "alpha/one" is compared with itself\n    Name two topics.',
        'comparisons/a.yaml:6: unknown demo "d"',
        'comparisons/b.yaml:1: the comparison "same" stands already at comparisons/a.yaml:1\n'
        "    Rename one of the two.",
        'comparisons/b.yaml:2: unknown topic "alpha/too"\n    did you mean "alpha/two"?',
        'comparisons/b.yaml:6: unknown demo "d"',
    ]


def test_a_topic_belongs_to_one_concept_group(tmp_path: Path) -> None:
    found = problems_of(corpus(tmp_path, concepts_yaml="- [alpha/one, alpha/two]\n- [alpha/two, beta/three]\n"))
    assert found == ['concepts.yaml:2: "alpha/two" belongs to a group already, at line 1\n    Join the two groups.']


def test_the_outlines_place_leads_a_group_with_a_foundation(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        foundations_txt="## Foundations\n└── Sums\n",
        concepts_yaml="- [foundations/sums, alpha/one]\n",
    )
    assert problems_of(folder) == [
        'concepts.yaml:1: the foundation "foundations/sums" leads a group with topics of the outline\n'
        "    Put the outline's topic first: its place leads."
    ]


def test_a_wrong_entry_hides_no_other_problem_of_its_file_or_of_itself(tmp_path: Path) -> None:
    entries = """\
        - id: alpha/one
          minuts: 3
          refs: [nobody]
        - id: alpha/one/deep
          level: hard
          prerequisites:
            - {topic: gamma, why: So.}
        - id: alpha/once
          prerequisites:
            - {topic: delta, why: So.}
        """
    assert [problem.split("\n")[0] for problem in problems_of(corpus(tmp_path, topics__alpha__one_yaml=entries))] == [
        'topics/alpha/one.yaml:2: unknown key "minuts"',
        'topics/alpha/one.yaml:3: unknown reference "nobody"',
        "topics/alpha/one.yaml:5: level should be 'beginner', 'intermediate' or 'advanced'",
        'topics/alpha/one.yaml:7: unknown topic "gamma"',
        'topics/alpha/one.yaml:8: unknown topic "alpha/once"',
        'topics/alpha/one.yaml:10: unknown topic "delta"',
    ]


def test_a_broken_outline_hides_no_problem_of_other_files_and_makes_no_false_one(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        outline_txt="## Alpha\n├── One\n│   │   └── Deep\n",
        topics__alpha__two_yaml="- id: alpha/two\n  minuts: 3\n",
    )
    assert [problem.split("\n")[0] for problem in problems_of(folder)] == [
        "outline.txt:3: a skipped level: level 3 under level 1",
        'topics/alpha/two.yaml:2: unknown key "minuts"',
    ]


def test_a_wrong_demo_is_not_also_unknown(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="- id: alpha/two\n  demo: {run: d, look_at: It.}\n",
        demos_yaml="- {id: d, title: Demo}\n",
    )
    assert problems_of(folder) == ['demos.yaml:1: "question" is missing\n    Write question: …']


def test_no_file_is_left_out_unsaid(tmp_path: Path) -> None:
    folder = corpus(tmp_path, topics__alpha__two_yaml="- id: alpha/two\n")
    (folder / "topics" / "alpha" / "one.yml").write_text("- id: alpha/one\n")
    (folder / "comparisons").mkdir()
    (folder / "comparisons" / "gone.yaml").symlink_to(folder / "nowhere.yaml")
    assert problems_of(folder) == [
        "comparisons/gone.yaml:1: cannot be read: No such file or directory",
        "topics/alpha/one.yml:1: this file is not read\n    Give it the ending .yaml, or move it elsewhere.",
    ]


def test_a_section_of_both_outlines_is_one_problem_with_its_line(tmp_path: Path) -> None:
    folder = corpus(tmp_path, foundations_txt="## Sums\n\n## Beta\n└── Three\n")
    assert problems_of(folder) == [
        'foundations.txt:3: the section "Beta" stands already at outline.txt:8\n    Rename one of the two.'
    ]


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"- id: alpha/two\n  summary: caf\xe9\n", 2, "byte 0xe9 is not UTF-8\n    Save the file as UTF-8."),
        (b"- id: alpha/two\n  summary: a\x01b\n", 2, "the control character U+0001\n    Remove it."),
        (b"- " + b"[" * 200_000, 1, "nesting depth"),
        (b"- " + b"[" * 400 + b"]" * 400, 1, "nested more than 20 levels deep"),
        (b"- id: alpha/two\n- &a [x]\n- [*a, *a]\n", 2, "an alias (*name) repeats this value"),
        (b"- id: alpha/two\n  summary: *Note* this\n", 2, "Quote the text: it begins with * or &."),
        (b"- &a [*a]\n", 1, "an alias (*name)"),
        (b"- ? [a, b]\n  : c\n", 1, "a key that is a list or a mapping"),
        (b"- &k id: alpha/two\n  *k : x\n", 1, "an alias (*name)"),
        (b"- !!python/object/apply:os.system [ls]\n", 1, "the tag !!python/object/apply:os.system"),
        (b"- id: !secret x\n", 1, "the tag !secret"),
        (b"#" * (8 * 1024 * 1024 + 1), 1, "the file is too large: at most 8,388,608 bytes"),
    ],
    ids=[
        "latin-1",
        "control",
        "unclosed",
        "deep",
        "alias",
        "emphasis",
        "itself",
        "list-key",
        "alias-key",
        "python",
        "tag",
        "large",
    ],
)
def test_hostile_yaml_is_refused_with_its_line(tmp_path: Path, data: bytes, line: int, what: str) -> None:
    folder = corpus(tmp_path, topics__alpha__two_yaml="")
    (folder / "topics" / "alpha" / "two.yaml").write_bytes(data)
    found = problems_of(folder)
    assert any(each.startswith(f"topics/alpha/two.yaml:{line}: ") and what in each for each in found), found


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    folder = corpus(tmp_path, topics__alpha__two_yaml="\ufeff- id: alpha/two\n  minutes: 4\n")
    assert read_corpus(folder).topics[3].minutes == 4


def test_places_name_the_line_of_each_entry_and_edge(tmp_path: Path) -> None:
    folder = corpus(
        tmp_path,
        topics__alpha__two_yaml="- id: alpha/two\n  prerequisites:\n  - topic: beta\n    why: So.\n",
    )
    read = read_corpus_with_places(folder)
    assert read.titles["alpha/two"].line == 6
    assert read.entries["alpha/two"].line == 1
    assert read.edges["beta", "alpha/two"].line == 3


def test_no_outline_and_two_outlines_are_told(tmp_path: Path) -> None:
    assert "no outline found" in problems_of(tmp_path)[0]
    folder = corpus(tmp_path)
    (folder / "outline.md").write_text("## A\n")
    assert "several outlines" in problems_of(folder)[0]


def test_the_schemas_for_editors_are_current(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "corpus" / "schema").iterdir()}
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == kept


def test_reading_outlines_loads_neither_pydantic_nor_the_bibtex_parser() -> None:
    heavy = "{'pydantic', 'bibtexparser', 'networkx', 'yaml', 'torch'}"
    code = f"import sys, ingest; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


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


def test_the_boundary_is_read_and_a_field_stands_once(tmp_path: Path) -> None:
    cooking = "- field: Cooking\n  questions: [how long do I boil an egg]\n"
    atlas = read_corpus(corpus(tmp_path, boundary_yaml=cooking))
    assert atlas.boundary == (NeighbouringField("Cooking", ("how long do I boil an egg",)),)
    folder = corpus(tmp_path, boundary_yaml=f"{cooking}{cooking}- field: Law\n")
    assert problems_of(folder) == [
        'boundary.yaml:3: the field "Cooking" stands twice\n    Join the two.',
        'boundary.yaml:5: "questions" is missing\n'
        "    Write questions: … (Questions that belong there and that no topic answers)",
    ]
