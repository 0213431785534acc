from datetime import date
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from graph import NetworkXStore
from study import StudyTimes, course_html, fit_path, path_html, plan_course, plan_path, timetable
from study.formula import formula_mathml
from tests.graph.atlases import ATLAS
from tests.study.test_export import odd_path

STORE = NetworkXStore(ATLAS)
PATH = plan_path(STORE, ["vae/loss"])
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """The tags, headings and addresses of a page; raises where tags are not closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data


def test_the_page_has_every_step_in_order_under_its_day() -> None:
    days = timetable(PATH, StudyTimes(date(2026, 3, 2), 20), reviews=False)
    assert Page(path_html(PATH, STORE, days)).headings == [
        "Study path to Loss",
        "Monday 2026-03-02, 20 min", "1. Transport", "2. Dcgan",
        "Tuesday 2026-03-03, 20 min", "2. Dcgan", "3. Loss", "4. Loss",
        "Wednesday 2026-03-04, 10 min", "4. Loss",
    ]  # fmt: skip


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = Page(path_html(PATH, STORE, link=lambda each: f"https://atlas.example/{each}"))
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.addresses == [f"https://atlas.example/{step.topic.id}" for step in PATH.steps]


@given(st.sampled_from(["<script>alert(1)</script>", '"><img src=x onerror=y>', r"\text{<b>x</b>}", "{{ 7 * 7 }}"]))
def test_what_was_written_about_a_topic_stays_text(text: str) -> None:
    store, path = odd_path(text)
    page = Page(path_html(path, store))
    assert not {"script", "img", "b"} & set(page.tags)
    assert page.headings[1] == f"1. {text}"


def test_what_was_left_out_is_on_the_page_with_its_cost() -> None:
    fitted = fit_path(PATH, 30)
    text = path_html(fitted.path, STORE, left_out=fitted.left_out)
    assert "<li>Loss: 20 min, 20 with what it needs</li>" in text or "25 with what it needs" in text


def test_a_course_is_a_page_by_weeks() -> None:
    headings = Page(course_html(plan_course(PATH, STORE, 2), STORE)).headings
    assert headings[0] == "Course on Loss"
    assert [each for each in headings if each.startswith("Week")] == ["Week 1, 25 min", "Week 2, 25 min"]


def test_a_formula_is_in_the_part_of_mathml_that_browsers_draw() -> None:
    """It knows upright letters as their only style, and neither aligned tables nor a space after a function."""
    assert "<mi>𝔼</mi>" in formula_mathml(r"\mathbb E")
    assert "<mi>ℒ</mi>" in formula_mathml(r"\mathcal L")
    assert "<mi>𝛉</mi><mn>𝟏</mn>" in formula_mathml(r"\mathbf{\theta1}")
    assert "<mi>softmax</mi>" in formula_mathml(r"\mathrm{softmax}(x)")
    assert '<mo lspace="0.167em" rspace="0.167em">log</mo><mi>p</mi>' in formula_mathml(r"\log p")
    assert '<mo lspace="0.167em" rspace="0">log</mo><mo' in formula_mathml(r"\log(p)")
    assert formula_mathml(r"\begin{aligned}a&=b\\c&=d\end{aligned}").count("<mtr>") == 2
    assert formula_mathml(r"\lVert x\rVert").count('<mo stretchy="false">&#x02016;</mo>') == 2
    assert 'stretchy="true"' in formula_mathml(r"\left|x\right|")
    assert 'display="inline"' in formula_mathml("x", "inline")


def test_a_formula_becomes_mathml_and_what_is_none_stays_readable() -> None:
    assert formula_mathml(r"\frac{a}{b}").startswith("<math")
    assert "<mfrac>" in formula_mathml(r"\frac{a}{b}")
    assert ">‖<" in formula_mathml(r"\big\lVert x \big\rVert")
    assert ">arg<" in formula_mathml(r"\arg\max_x f")
    assert formula_mathml(r"\left( <b>") == r"<code>\left( &lt;b&gt;</code>"


@given(st.text(alphabet='\\{}^_&<>"=/ abtextcolorfracscript', max_size=40))
def test_no_formula_brings_a_foreign_tag_or_a_handler(latex: str) -> None:
    tags = set(Page(formula_mathml(latex)).tags)
    assert tags <= {"code"} or tags <= {
        "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded", "mphantom",
        "msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd", "menclose",
    }  # fmt: skip
