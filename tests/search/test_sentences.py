import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.sentences import prose_of, sentences_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It converges. It stops!", ["It converges.", "It stops!"]),
        ("Use a schedule, e.g. Cosine. It works.", ["Use a schedule, e.g. Cosine.", "It works."]),
        ("The bound, i.e. ELBO, is tight. See Fig. 2.", ["The bound, i.e. ELBO, is tight.", "See Fig. 2."]),
        ("Kingma et al. (2013) show it in Sec. 3. Read it.", ["Kingma et al. (2013) show it in Sec. 3.", "Read it."]),
        ("The rate is 0.0001. Then 0.02.", ["The rate is 0.0001.", "Then 0.02."]),
        ("Take $a. B$ here. Next.", ["Take $a. B$ here.", "Next."]),
        ("Call `x.item(). Then`. Done.", ["Call `x.item(). Then`.", "Done."]),
        ("The variance is σ². μ is the mean.", ["The variance is σ².", "μ is the mean."]),
        ("It has a code. z is drawn from it.", ["It has a code.", "z is drawn from it."]),
        ("It ends in $x$. $y$ begins.", ["It ends in $x$.", "$y$ begins."]),
        ('He said "stop." They went on.', ['He said "stop."', "They went on."]),
        ("Compare A vs. B with J. Smith. Good.", ["Compare A vs. B with J. Smith.", "Good."]),
        ("two\nlines  of\ttext", ["two lines of text"]),
        ("", []),
    ],
)
def test_text_is_cut_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


@given(st.text(alphabet="aB .!?$`\n1é", max_size=80))
def test_nothing_is_lost_between_sentences(text: str) -> None:
    assert " ".join(sentences_of(text)).split() == text.split()


MARKDOWN = """**Why it works.** The noise has no parameter. Draw it and scale:

$$z = \\mu + \\sigma\\varepsilon$$

| part | size |
| --- | --- |
| code | 20 |

The steps are:

```python
z = mu + std * eps   # This is code. It is no sentence.
```

- the encoder gives **both** numbers;
- the decoder reads the code. It gives an image.

1. First count them all.
"""


def test_markdown_is_read_as_prose() -> None:
    assert prose_of(MARKDOWN) == [
        "The noise has no parameter.",
        "Draw it and scale: $$z = \\mu + \\sigma\\varepsilon$$",
        "the encoder gives both numbers;",
        "the decoder reads the code.",
        "It gives an image.",
        "First count them all.",
    ]
