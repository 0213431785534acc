import pytest

from ingest.latex import formula_fault, markdown_faults


@pytest.mark.parametrize(
    "formula",
    [
        "",
        r"\mathrm{softmax}\!\left(QK^\top/\sqrt{d_k}\right)V",
        r"\left\{ x \right.",
        r"\{x",
        r"\begin{cases} a & x>0 \\ b \end{cases}",
        r"\left(\begin{matrix}1\end{matrix}\middle|y\right)",
        r"x \leftarrow y \rightarrow z",
        r"5\%",
    ],
)
def test_a_sound_formula_has_no_fault(formula: str) -> None:
    assert formula_fault(formula) == ""


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        (r"\frac{a}{b", "{ is never closed"),
        ("a}", "} closes nothing"),
        (r"\left( x", r"\left is never closed"),
        (r"x \right)", r"\right closes nothing"),
        (r"{\left( x } \right)", r"} where \left is to be closed by \right"),
        (r"\left", r"\left without a delimiter after it"),
        (r"p(x \middle| y)", r"\middle stands outside \left … \right"),
        (r"\begin{cases} a", r"\begin{cases} is never closed"),
        (r"\begin{cases} a \end{matrix}", r"\end{matrix} where \begin{cases} is to be closed by \end{cases}"),
        ("$x$", "a $ inside the formula"),
        ("5%", r"a % hides the rest of its line; write \%"),
        ("x\\", "it ends with a backslash"),
    ],
)
def test_each_kind_of_broken_formula_says_what_is_wrong(formula: str, fault: str) -> None:
    assert formula_fault(formula) == fault


def test_formulas_in_markdown_are_looked_at_and_code_is_not() -> None:
    assert list(markdown_faults("Then $x^{2}$, $$\\frac{a}{b}$$ and `a $b` for \\$3.")) == []
    assert list(markdown_faults("```\n$ make run\n```\nThen $x$.")) == []
    assert list(markdown_faults("Then $x^{2$ and $$\\frac{a}{$$.")) == [
        "$x^{2$: { is never closed",
        "$\\frac{a}{$: { is never closed",
    ]
    assert list(markdown_faults("Both $x$ and $y")) == [r"a $ without its partner; write \$ for a dollar sign"]
    assert list(markdown_faults("It rents at $2 an hour, in all $5.")) == [
        r"$2 an hour, in all$: this reads as a formula; write \$ for a dollar sign"
    ]
