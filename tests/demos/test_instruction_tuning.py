"""From base model to assistant: what is demonstrated, where the loss is taken, and what a tuned model follows."""

from functools import cache

import pytest
import torch
from torch.nn.functional import cross_entropy

from demos.contract import Result
from demos.llms.instruction_tuning import (
    ASK,
    ASSISTANT,
    COUNTRIES,
    COUNTRY,
    END,
    IGNORED,
    LENGTH,
    USER,
    WORDS,
    Params,
    ask,
    converse,
    demonstrate,
    followed,
    make_facts,
    next_word_loss,
    prompt_gradient,
    run,
    spell,
    write_text,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

FACTS = make_facts(rng())


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def tiny(words: int = len(WORDS)) -> Transformer:
    return Transformer(words, LENGTH, 8, 1, 2, rng(), causal=True)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "instruction-tuning")
    assert metric(result(), "recall of an earlier turn") >= 0.9


def test_without_fine_tuning_no_question_is_answered() -> None:
    base = run(Params.model_validate(Params.presets["base model"].values))
    assert failed(base) == ["Demonstrations make it", "A tenth as many do less", "Quality counts"]
    assert metric(base, "followed") == metric(base, "followed by the base model")


def test_no_demonstration_asks_a_question_that_is_kept_for_the_test() -> None:
    assert len(FACTS.shown) + len(FACTS.unseen) == 4 * COUNTRIES
    words, _ = demonstrate(Params.model_validate({"demonstrations": 500, "turns": 1}), FACTS, rng())
    asked = {tuple(row) for row in words[:, :5].numpy().tolist()}
    assert len(asked) == len(FACTS.shown)  # all of them come up in 500
    assert asked.isdisjoint({tuple(row) for row in ask(FACTS.unseen).numpy().tolist()})


def test_the_loss_counts_the_assistants_words_alone() -> None:
    words, targets = demonstrate(Params.model_validate({"demonstrations": 50, "turns": 4}), FACTS, rng())
    for row, target in zip(words.numpy().tolist(), targets.numpy().tolist(), strict=True):
        following = [*row[1:], END]
        speaks = False
        for place, word in enumerate(row):
            speaks = (speaks or word == ASSISTANT) and word != END
            assert target[place] == (following[place] if speaks else IGNORED)


def test_with_the_prompt_in_the_loss_its_logits_have_a_gradient() -> None:
    masked, whole = (
        Params.model_validate({"demonstrations": 20, "mask_prompt": mask_prompt}) for mask_prompt in (True, False)
    )
    assert prompt_gradient(tiny(), *demonstrate(masked, FACTS, rng())) == 0
    assert prompt_gradient(tiny(), *demonstrate(whole, FACTS, rng())) > 0


def test_the_loss_is_the_mean_over_what_counts() -> None:
    model = tiny()
    words, targets = demonstrate(Params.model_validate({"demonstrations": 20}), FACTS, rng())
    with torch.no_grad():
        counted = targets != IGNORED
        expected = cross_entropy(model(words)[counted], targets[counted])
        torch.testing.assert_close(next_word_loss(model, words, targets), expected)


def test_wrong_demonstrations_are_as_many_as_asked() -> None:
    params = Params.model_validate({"demonstrations": 2000, "turns": 1, "quality": 0.5})
    words, targets = demonstrate(params, FACTS, rng())
    asked = [FACTS.answers[row[1] - ASK, row[2] - COUNTRY] for row in words]
    said = [int(target) == int(answer) for target, answer in zip(targets[:, 4], asked, strict=True)]
    assert sum(said) / len(said) == pytest.approx(0.5 + 0.5 / 8, abs=0.04)  # a wrong one is right once in eight


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_conversation_fits_and_ends_with_the_name_that_was_told(turns: int) -> None:
    text, said = converse(FACTS, turns, FACTS.unseen, 1.0, rng())
    assert len(text) == len(said) <= LENGTH
    assert (text.count(USER), text[-1]) == (turns, END)
    assert turns == 1 or text[-2] == text[2]


def test_the_base_models_text_has_no_answered_question() -> None:
    generator = rng()
    texts = [spell(torch.tensor(write_text(FACTS, generator))) for _ in range(200)]
    for text in texts:
        for after in text.split("? ")[1:]:
            assert after.startswith(("name", "capital", "colour", "drink", "bird"))
        assert ("?" in text) != ("is" in text.split())


def test_followed_is_the_chance_of_the_answer_and_the_end() -> None:
    model, prompts = tiny(), ask(FACTS.unseen)[:1]
    total = 0.0
    for answer in range(len(WORDS)):
        total += followed(model, prompts, torch.tensor([answer]))
    with torch.no_grad():  # over all answers: the chance that the second word is the end
        first = (model(prompts)[0, -1] / 0.5).softmax(dim=0)
        both = torch.cat([prompts.expand(len(WORDS), -1), torch.arange(len(WORDS))[:, None]], dim=1)
        second = (model(both)[:, -1] / 0.5).softmax(dim=1)[:, END]
    assert total == pytest.approx(float(first @ second), rel=1e-4)
