import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.words import spell, unglued, words_of, words_of_query


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("βₜ", "beta_t"),
        ("βt", "beta_t"),
        ("√dₖ", " sqrt d_k"),
        ("ᾱₜ", "alpha_t"),
        ("pθ(xₜ₋₁|xₜ)", "p_theta(x_t-1|x_t)"),
        ("εθ", "epsilon_theta"),
        ("Fréchet", "Frechet"),
        ("4²", "4 squared "),
        ("λ_A", "lambda_A"),
    ],
)
def test_symbols_are_spelled(text: str, spelled: str) -> None:
    assert spell(text) == spelled


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("βₜ", "beta_t"),
        ("β_t", r"\beta_{t}"),
        ("√dₖ", "sqrt(d_k)"),
        ("√dk", "sqrt dk"),
        ("U-Net", "UNet"),
        ("GPT-3.5", "GPT3.5"),
        ("fine-tuning", "finetuning"),
        ("LLMs", "llm"),
        ("GANs", "gan"),
        ("CycleGAN", "cyclegan"),
        ("word2vec", "Word2Vec"),
        ("DeepSeek's", "DeepSeek"),
    ],
)
def test_spellings_of_one_name_share_their_last_word(one: str, other: str) -> None:
    assert words_of(one)[-1] == words_of(other)[-1]


def test_a_compound_has_its_parts_and_its_whole() -> None:
    assert words_of("Self-Attention") == ["self", "attent", "selfattent"]
    assert words_of("CycleGAN") == ["cycl", "gan", "cyclegan"]


def test_numbers_stay_whole() -> None:
    assert "2.788" in words_of("2.788M hours")
    assert words_of("L1 and L2") == ["l1", "l2"]  # one-letter parts say nothing


def test_words_of_asking_are_no_words_of_the_subject() -> None:
    words = words_of_query("Explain the difference between top k and what temperature means?")
    assert [word.typed for word in words if not word.is_pair] == ["top", "k", "temperature"]


def test_neighbours_are_looked_up_as_one_word_too() -> None:
    pairs = {word.typed: word.forms for word in words_of_query("cycle gan") if word.is_pair}
    assert pairs == {"cycle gan": ("cyclegan",)}


def test_symbols_are_told_from_words() -> None:
    kinds = {word.typed: word.is_symbol for word in words_of_query("variance βₜ of beta_t and x²") if not word.is_pair}
    assert kinds == {"variance": False, "βₜ": True, "beta_t": True, "x²": True}


@given(st.text(max_size=60))
def test_any_text_has_words_in_plain_lower_case(text: str) -> None:
    for word in words_of(text):
        assert word == word.strip()
        assert word
        assert not any(sign.isspace() for sign in word)


@pytest.mark.parametrize(
    ("glued", "text"),
    [
        ("What areDeep GANs (DCGANs)and how do they differ?", "What are Deep GANs (DCGANs) and how do they differ?"),
        ("the size ofBERT", "the size of BERT"),
        ("CycleGAN and InfoGAN, InceptionV3, iForest", "CycleGAN and InfoGAN, InceptionV3, iForest"),
        ("p(x) and q(z)", "p(x) and q(z)"),
    ],
)
def test_spaces_that_copying_lost_come_back(glued: str, text: str) -> None:
    assert unglued(glued) == text
