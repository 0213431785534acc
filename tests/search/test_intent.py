import pytest

from search.intent import intent_of, sides_of, subject_of


@pytest.mark.parametrize(
    ("question", "intent"),
    [
        ("what is a normalising flow", "definition"),
        ("autoencoder", "definition"),
        ("Why do samples look blurred?", "why"),
        ("why use a KL term instead of a hard constraint", "why"),
        ("what is the purpose of the critic", "why"),
        ("How is the bound derived?", "how"),
        ("flow vs autoencoder", "comparison"),
        ("is a flow better than an autoencoder", "comparison"),
        ("encoder or decoder?", "comparison"),
        ("when should I use a flow rather than an autoencoder", "comparison"),
        ("what do I need to know before flows", "prerequisites"),
        ("prerequisites of the bound", "prerequisites"),
        ("what should I learn first for flows", "prerequisites"),
        ("how do I learn flows", "path"),
        ("study plan for flows", "path"),
        ("what are the terms of the loss", "list"),
        ("types of flows", "list"),
        ("how many steps does it take", "number"),
        ("show me a demo of flows", "demo"),
    ],
)
def test_the_wording_shows_the_intent(question: str, intent: str) -> None:
    assert intent_of(question) == intent


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("what do I need to know before flows", "flows"),
        ("prerequisites of the bound", "the bound"),
        ("show me a demo of flows", "flows"),
        ("how do I learn normalising flows", "normalising flows"),
        ("normalising flows", "normalising flows"),
        ("demo", "demo"),
    ],
)
def test_the_subject_is_what_is_left(question: str, subject: str) -> None:
    assert subject_of(question) == subject


@pytest.mark.parametrize(
    ("question", "sides"),
    [
        ("What is the difference between a flow and an autoencoder?", [("flow", "autoencoder")]),
        ("Compare flows with autoencoders. Which one is faster?", [("flows", "autoencoders")]),
        ("flows vs. autoencoders", [("flows", "autoencoders")]),
        ("soft and hard attention", [("soft attention", "hard attention"), ("soft", "hard attention")]),
        ("How do flows differ from autoencoders?", [("flows", "autoencoders")]),
        ("What are flows and how do they differ from autoencoders?", [("flows", "autoencoders")]),
        ("Compare and contrast flows and autoencoders", [("flows", "autoencoders")]),
        ("In what scenarios would you choose flows over autoencoders?", [("flows", "autoencoders")]),
        (
            "fast and slow ways of sampling",
            [("fast ways of sampling", "slow ways of sampling"), ("fast", "slow ways of sampling")],
        ),
        ("difference of flows and VAEs", [("flows", "VAEs")]),
        ("When might prompting be preferred over fine-tuning?", [("prompting", "fine-tuning")]),
        (
            "What are DCGANs and how do they differ from basic GANs?",
            [("DCGANs GANs", "basic GANs"), ("DCGANs", "basic GANs"), ("DCGANs", "GANs")],
        ),
        ("How do these differ from each other?", []),
        ("flows", []),
    ],
)
def test_the_wording_tells_the_sides_of_a_comparison(question: str, sides: list[tuple[str, str]]) -> None:
    assert sides_of(question) == sides
