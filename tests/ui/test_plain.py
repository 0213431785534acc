import pytest

from ui.widgets.plain import cell, excerpt, plain, prose, quoted, table


@pytest.mark.parametrize(
    ("title", "written"),
    [
        ("Mode Collapse", "Mode Collapse"),
        ("~$5.6M Cost at $2/hour", r"\~\$5.6M Cost at \$2/hour"),
        ("Conditional Generator G(z|y)", r"Conditional Generator G(z\|y)"),
        ("Input: [CLS] Text [SEP]", r"Input: \[CLS\] Text \[SEP\]"),
        ("MTP Loss (L_MTP)", r"MTP Loss (L\_MTP)"),
        ("1. First", r"1\. First"),
        ("1.5B (XL)", "1.5B (XL)"),
        ("- a sign", r"\- a sign"),
        (":red[danger]", r"\:red\[danger\]"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_title_is_written_so_that_it_shows_unchanged(title: str, written: str) -> None:
    assert plain(title) == written


def test_in_prose_dollars_are_money_and_code_stays_code() -> None:
    assert prose("It costs $5 or ~$6, see `f$x$`; *really*.") == r"It costs \$5 or \~\$6, see `f$x$`; *really*."


def test_a_sentence_keeps_the_formulas_of_its_detail_and_no_other_dollars() -> None:
    detail = "Then\n$x = \\mu\n+ 1$ holds."
    assert quoted("Then $x = \\mu + 1$ holds.", detail) == "Then $x = \\mu + 1$ holds."
    assert quoted("From $5 to $6.", detail) == r"From \$5 to \$6."


def test_a_table_has_its_head_and_each_cell_in_its_column() -> None:
    assert table(["", "a"], [["b", cell("p(x|z)\nfor $1")]]) == "|  | a |\n| --- | --- |\n| b | p(x\\|z) for \\$1 |"


def test_an_excerpt_ends_between_words_and_outside_a_formula() -> None:
    assert excerpt("one two three", 20) == "one two three"
    assert excerpt("one two three", 9) == "one two …"
    assert excerpt("where $a + b$ is", 10) == "where …"
