from pathlib import Path

import pytest

from graph import Reference
from ingest.bibliography import read_references
from ingest.problems import Problem


def read(folder: Path, text: str) -> tuple[tuple[Reference, ...], list[str]]:
    """The works of a BibTeX text and its problems."""
    path = folder / "references.bib"
    path.write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    return tuple(read_references(path, "references.bib", problems)), [str(problem) for problem in problems]


def test_latex_is_spelled_out_and_braces_hold_a_name_together(tmp_path: Path) -> None:
    (work,), problems = read(
        tmp_path,
        r"""@misc{a,
          author = {{Barnes and Noble} and M{\"u}ller, J{\'e}r{\^o}me and van den Oord, A{\"a}ron and others},
          title = {{On {GANs} \& $\beta$-VAEs: a -- b}},
          year = {2013}, eprint = {1312.6114}, archiveprefix = {arXiv}}""",
    )
    assert problems == []
    assert work.authors == ("Barnes and Noble", "Jérôme Müller", "Aäron van den Oord", "others")
    assert work.title == "On GANs & $\\beta$-VAEs: a – b"
    assert (work.year, work.arxiv, work.link) == (2013, "1312.6114", "https://arxiv.org/abs/1312.6114")


def test_a_tilde_stays_in_an_address(tmp_path: Path) -> None:
    (work,), _ = read(tmp_path, r"@misc{a, title = {T}, url = {https://x.org/~who/a\_b}}")
    assert work.link == "https://x.org/~who/a_b"


def test_identifiers_lose_their_prefixes(tmp_path: Path) -> None:
    works, problems = read(
        tmp_path,
        "@misc{a, title={T}, eprint={arXiv:hep-th/9901001}}\n@misc{b, title={T}, doi={https://doi.org/10.1038/x.1}}\n",
    )
    assert problems == []
    assert [(work.arxiv, work.doi) for work in works] == [("hep-th/9901001", ""), ("", "10.1038/x.1")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "\n@misc{a, title = {T}}",
            'references.bib:2: "a" cannot be looked up: it has no arXiv id, DOI or URL\n    Give eprint, doi or url.',
        ),
        (
            "@misc{a, title = {T}, eprint = {hal-123}, archiveprefix = {HAL}}",
            'references.bib:1: "a" cannot be looked up: it has no arXiv id, DOI or URL\n    Give eprint, doi or url.',
        ),
        ("@misc{a, eprint = {1312.6114}}", 'references.bib:1: "a" has no title\n    Give title.'),
        (
            "@misc{a, title = {T}, eprint = {13126114}}",
            'references.bib:1: "a": eprint "13126114" is not of the form 2006.11239\n    Correct or remove eprint.',
        ),
        (
            "@misc{a, title = {T}, eprint = {1312.6114}}\n@misc{a, title = {U}, eprint = {1312.6115}}",
            'references.bib:2: the key "a" stands already at line 1\n    Keep one of the two, or rename one.',
        ),
        (
            "@misc{a, title = {T}, title = {U}, eprint = {1312.6114}}",
            "references.bib:1: the field title stands twice in one work\n    Keep one of the two.",
        ),
        (
            "misc{a, title = {T}}",
            'references.bib:1: "misc{a, title = {T}}" belongs to no work\n    Begin a work with @, a comment with %.',
        ),
    ],
)
def test_each_kind_of_wrong_work_says_what_and_where(tmp_path: Path, text: str, problem: str) -> None:
    assert read(tmp_path, text)[1] == [problem]


def test_an_unclosed_work_is_a_problem_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, problems = read(tmp_path, "% comment\n@misc{a, title = {T\n\n@misc{b, title = {U}, eprint = {1312.6114}}")
    assert problems[0].startswith("references.bib:2: not valid BibTeX: Unexpected block start")
    assert capfd.readouterr() == ("", "")


def test_a_bibliography_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "r.bib"
    path.write_bytes(b"% ok\n@misc{a, title = {\xe9}}")
    problems: list[Problem] = []
    assert read_references(path, "r.bib", problems) == {}
    assert [(problem.line, problem.what) for problem in problems] == [(2, "byte 0xe9 is not UTF-8")]
