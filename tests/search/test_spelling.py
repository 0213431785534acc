import pytest

from search.spelling import Speller, correct

SPELLER = Speller(["collapse", "discriminator", "latent", "space", "generator", "image", "mode", "loss"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("colapse", "collapse"),
        ("collaspe", "collapse"),
        ("descriminater", "discriminator"),
        ("latnet", "latent"),
        ("thelatentspace", "the latent space"),
        ("ofgenerator", "of generator"),
    ],
)
def test_slips_are_read_as_what_was_meant(typed: str, meant: str) -> None:
    assert SPELLER.read(typed) == meant


@pytest.mark.parametrize("word", ["bread", "loaf", "patent", "mod", "x" * 500, "abc123", "βeta", ""])
def test_other_words_stay_what_they_are(word: str) -> None:
    assert SPELLER.read(word) is None


def test_only_the_named_words_of_a_text_are_corrected() -> None:
    assert correct("the colapse of latnet", ["colapse"], SPELLER.read) == (
        "the collapse of latnet",
        {"colapse": "collapse"},
    )
