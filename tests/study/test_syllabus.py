"""A syllabus against a small atlas, then real ones with twenty planted faults against the shipped atlas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from graph import ConceptGroup, GraphStore, NetworkXStore, Prerequisite, Topic
from ingest import read_corpus
from service import Settings, open_service
from study import StudyPath, SyllabusLine, SyllabusReport, check_syllabus, plan_path, syllabus_json, syllabus_lines
from tests.graph.atlases import atlas_of
from tests.ingest.folders import ROOT


def needs(before: str, after: str) -> Prerequisite:
    return Prerequisite(before, after, f"{after} uses {before}.")


STORE = NetworkXStore(
    atlas_of(
        ["a", "b", "c", "d", "s", "s/x", "s/y", "twin"],
        needs("a", "b"),
        needs("b", "c"),
        needs("c", "d"),
        needs("s/x", "d"),
        concepts=(ConceptGroup(("a", "twin")),),
    )
)


def check(*ids: str | None, store: GraphStore = STORE, known: Sequence[str] = ()) -> SyllabusReport:
    """The report on a syllabus whose lines name these topics; None is a line that the atlas does not have."""
    lines = [
        SyllabusLine(number, each or "?", store.topic(each) if each else None)
        for number, each in enumerate(ids, start=1)
    ]
    return check_syllabus(store, lines, known)


def missing(report: SyllabusReport) -> list[tuple[str, int]]:
    return [(each.step.topic.id, each.line.number) for each in report.missing]


def too_early(report: SyllabusReport) -> list[tuple[int, int]]:
    return [(each.line.number, each.needs.number) for each in report.too_early]


def repaired(report: SyllabusReport) -> list[tuple[str, int | None]]:
    return [(slot.topic.id, slot.line.number if slot.line else None) for slot in report.repaired]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  - [ ] 3. Mode collapse (20 min)", "Mode collapse"),
        ("Week 3: GANs", "GANs"),
        ("Lectures 4-5 – Attention", "Attention"),
        ("classifier-free guidance", "classifier-free guidance"),
        ("Module: BERT", "BERT"),
        ("1.2) Softmax, 1.5 hours", "Softmax"),
        ("• KL divergence", "KL divergence"),
        ("a) ELBO", "ELBO"),
    ],
)
def test_a_line_is_read_without_its_bullet_number_week_and_length(line: str, words: str) -> None:
    assert list(syllabus_lines(line)) == [(1, words)]


def test_headings_blank_lines_and_bare_weeks_are_no_topics_but_count_as_lines() -> None:
    assert list(syllabus_lines("# Course\n\nWeek 1\n---\nGANs\n")) == [(5, "GANs")]


def test_a_syllabus_in_order_has_no_faults() -> None:
    report = check("a", "b", "c", "s", "d")
    assert (report.missing, report.too_early, report.repeats, report.unknown) == ((), (), (), ())
    assert repaired(report) == [("a", 1), ("b", 2), ("c", 3), ("s", 4), ("d", 5)]


def test_what_is_missing_is_told_with_the_line_that_needs_it_and_put_before_it() -> None:
    report = check("a", "c")
    assert missing(report) == [("b", 2)]
    assert report.missing[0].chain[0].reason.why == "c uses b."
    assert repaired(report) == [("a", 1), ("b", None), ("c", 2)]


def test_what_only_another_missing_topic_needs_is_not_called_direct() -> None:
    report = check("c")
    assert {each.step.topic.id: each.is_direct for each in report.missing} == {"a": False, "b": True}


def test_a_line_before_what_it_needs_is_too_early_and_the_repair_pulls_that_forward() -> None:
    report = check("b", "a", "c")
    assert too_early(report) == [(1, 2)]
    assert report.too_early[0].why == "b uses a."
    assert repaired(report) == [("a", 2), ("b", 1), ("c", 3)]


def test_a_need_behind_a_missing_topic_still_counts_for_the_order() -> None:
    assert too_early(check("c", "a")) == [(1, 2)]


def test_a_broad_line_covers_what_is_below_it() -> None:
    report = check("a", "b", "c", "d", "s")
    assert missing(report) == []
    assert too_early(report) == [(4, 5)]
    assert repaired(report) == [("a", 1), ("b", 2), ("c", 3), ("s", 5), ("d", 4)]


def test_a_twin_covers_its_concept_and_a_second_one_is_a_repeat() -> None:
    report = check("twin", "b", "a")
    assert missing(report) == []
    assert [(each.line.number, each.first.number) for each in report.repeats] == [(3, 1)]


def test_what_is_known_is_not_missing() -> None:
    assert missing(check("c", known=["b"])) == []


def test_a_line_of_what_is_known_keeps_its_place() -> None:
    assert repaired(check("a", "c", known=["b"])) == [("a", 1), ("c", 2)]


def test_a_line_that_the_atlas_does_not_have_is_told_and_left_out() -> None:
    report = check("a", None)
    assert [line.number for line in report.unknown] == [2]
    assert [line.number for line in report.covered] == [1]


def test_an_unsure_line_is_taken_for_the_meaning_that_the_others_need() -> None:
    guess, meant = STORE.topic("s/y"), STORE.topic("b")
    lines = [
        SyllabusLine(1, "a", STORE.topic("a")),
        SyllabusLine(2, "b or so", guess, (meant,)),
        SyllabusLine(3, "c", STORE.topic("c")),
    ]
    report = check_syllabus(STORE, lines)
    assert missing(report) == []
    (line,) = report.unsure
    assert (line.topic, line.others) == (meant, (guess,))


def test_an_unsure_line_that_nothing_needs_stays_the_best_guess() -> None:
    report = check_syllabus(STORE, [SyllabusLine(1, "x", STORE.topic("s/x"), (STORE.topic("s/y"),))])
    assert report.lines[0].topic == STORE.topic("s/x")
    assert report.unsure == report.lines


def test_the_report_as_json_names_lines_by_number() -> None:
    document = syllabus_json(check("b", "a", "d"))
    assert document["too_early"] == [{"line": 1, "needs_line": 2, "needs": "a", "why": "b uses a."}]
    assert [(each["topic"], each["for_line"]) for each in document["missing"]] == [("c", 3), ("s/x", 3)]
    assert document["repaired"][0] == {"topic": "a", "title": "A", "line": 2}


# Twenty planted faults

GOALS = [
    "generative-adversarial-networks/advanced-gan-architectures/wasserstein-gan",
    "stable-diffusion/latent-diffusion-model-concept",
    "gpt-family/rlhf",
    "vision-transformers/vit-architecture",
]


@pytest.fixture(scope="module")
def shipped() -> NetworkXStore:
    return NetworkXStore(read_corpus(ROOT / "corpus"))


@pytest.mark.parametrize("goal", GOALS)
def test_a_syllabus_made_of_a_path_has_no_faults(shipped: NetworkXStore, goal: str) -> None:
    report = check(*(step.topic.id for step in plan_path(shipped, [goal]).steps), store=shipped)
    assert (report.missing, report.floor, report.too_early, report.repeats) == ((), (), (), ())
    assert [slot.line.number for slot in report.repaired if slot.line] == list(range(1, len(report.lines) + 1))


@dataclass(frozen=True)
class Planted:
    """A path as a syllabus with five faults; the topic of a line, None for the foreign one, and what is to be found."""

    topics: list[Topic | None]
    missing: set[str]
    too_early: set[tuple[int, int]]
    repeat: tuple[int, int]
    foreign: int


def planted(path: StudyPath) -> Planted:
    """Leave out the first and the last topic that both need and are needed; move one that needs nothing to the end,
    teach the first one twice, and add something foreign."""
    needing = {reason.needed_by for step in path.steps for reason in step.reasons}
    inner = [step for step in path.steps if step.topic.id in needing and step.reasons]
    gone = {inner[0].topic.id, inner[-1].topic.id}
    late = next(
        step
        for step in path.steps
        if step.topic.id not in needing and all(reason.needed_by not in gone for reason in step.reasons)
    )
    kept = [step.topic for step in path.steps if step.topic.id not in gone and step is not late]
    place = {topic.id: number for number, topic in enumerate(kept, start=1)}
    count = len(kept)
    return Planted(
        [*kept, late.topic, kept[0], None],
        gone,
        {(place[reason.needed_by], count + 1) for reason in late.reasons},
        (count + 2, 1),
        count + 3,
    )


@pytest.mark.parametrize("goal", GOALS)
def test_each_of_five_planted_faults_is_found_and_nothing_else(shipped: NetworkXStore, goal: str) -> None:
    faults = planted(plan_path(shipped, [goal]))
    report = check(*(topic.id if topic else None for topic in faults.topics), store=shipped)
    assert {each.step.topic.id for each in (*report.missing, *report.floor)} == faults.missing
    assert set(too_early(report)) == faults.too_early
    assert [(each.line.number, each.first.number) for each in report.repeats] == [faults.repeat]
    assert [line.number for line in report.unknown] == [faults.foreign]
    order = [slot.topic.id for slot in report.repaired]
    assert check(*order, store=shipped, known=[each.step.topic.id for each in report.floor]).too_early == ()


@pytest.mark.parametrize("goal", GOALS)
def test_the_faults_are_found_in_a_text_too_where_each_line_has_to_be_searched_for(built_home: Path, goal: str) -> None:
    service = open_service(Settings(home=built_home))
    faults = planted(service.path([goal]))
    text = "\n".join(
        f"{number}. {topic.title} ({topic.title_path[-2]})" if topic else "- baking sourdough bread at home"
        for number, topic in enumerate(faults.topics, start=1)
    )
    report = service.syllabus(text)
    assert faults.missing <= {each.step.topic.id for each in (*report.missing, *report.floor)}
    assert faults.too_early <= set(too_early(report))
    assert faults.repeat in {(each.line.number, each.first.number) for each in report.repeats}
    assert [line.number for line in report.unknown] == [faults.foreign]


def test_a_syllabus_in_a_teachers_words_is_matched_and_its_planted_faults_are_named(built_home: Path) -> None:
    text = """# Generative adversarial networks
    Week 1: Wasserstein GAN (60 min)
    Week 2: what is a GAN
    - the discriminator network
    - the generator network
    - training a GAN: the adversarial loop
    Week 3: mode collapse
    - baking sourdough bread
    Week 4: mode collapse in GAN training
    """
    report = open_service(Settings(home=built_home)).syllabus(text)
    matched = {line.number: line.topic.id for line in report.covered if line.topic}
    gans = "generative-adversarial-networks"
    assert matched[2] == f"{gans}/advanced-gan-architectures/wasserstein-gan"
    assert matched[4] == f"{gans}/gan-fundamentals/gan-architecture/discriminator-network"
    assert matched[7] == f"{gans}/gan-fundamentals/training-challenges/mode-collapse"
    assert [line.number for line in report.unknown] == [8]
    assert [(each.line.number, each.first.number) for each in report.repeats] == [(9, 7)]
    assert 2 in {each.line.number for each in report.too_early}
    assert {each.step.topic.origin for each in report.floor} == {"foundation"}
