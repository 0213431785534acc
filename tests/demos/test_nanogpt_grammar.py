"""nanogpt-grammar against transformers' GPT-2; its grammar against a parser, corruptions and counts."""

import math
import random

import pytest
import torch
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel

from demos.contract import Cell, Lines, Result
from demos.language_models.nanogpt_grammar import GPT, WINDOW, Params, agreement, losses, run, write
from demos.shared.grammar import (
    CAPITAL_BY_COUNTRY,
    ID,
    P_ADJECTIVE,
    P_CLAUSE,
    P_FACT,
    P_OBJECT,
    TAG,
    WORDS,
    draw_text,
    parses,
    source_entropy,
    spell,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def sentences(count: int, facts: bool = True, seed: int = 0) -> list[list[str]]:
    words = " ".join(spell(draw_text(count, facts, rng(seed)))).removesuffix(" .").split(" . ")
    return [[*sentence.split(), "."] for sentence in words]


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "nanogpt-grammar")
    prompted = [str(row[0]) for row in outcome.tables[0].rows[:8]]
    assert all(sentence.startswith("the dogs that the cat ") for sentence in prompted)
    assert all(row[1] == parses(str(row[0]).split()) for row in outcome.tables[0].rows)


def test_grammar_is_learned_before_facts() -> None:
    outcome = result(**Params.presets["stopped early"].values)
    assert failed(outcome) == ["Validation loss comes near the source entropy H", "Facts of the text recalled"]
    curves = outcome.figures[0]
    assert isinstance(curves, Lines)
    assert curves.at[-1] == 150
    assert curves.series["validation"][0] > curves.series["validation"][-1] > curves.series["source entropy"][-1]


def test_facts_that_were_not_told_are_not_recalled_and_hot_sentences_do_not_parse() -> None:
    outcome = result(**Params.presets["no facts"].values, **Params.presets["hot"].values)
    assert "Facts of the text recalled" in failed(outcome)
    assert "Sampled sentences that parse" in failed(outcome)
    assert "Validation loss comes near the source entropy H" not in failed(outcome)


def test_the_same_seed_repeats_the_run_and_another_does_not() -> None:
    first, again, other = (result(steps=50, layers=1, d_model=16, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_model_is_transformers_gpt2() -> None:
    model = GPT(64, 3, 4, rng())
    for weight in model.parameters():  # norms and biases too must differ from their start, or a mix-up goes unseen
        torch.nn.init.normal_(weight, std=0.2, generator=rng(weight.numel()))
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=WINDOW, n_embd=64, n_layer=3, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    reference = GPT2LMHeadModel(config).eval()
    names = {
        "norm1": "ln_1", "norm2": "ln_2", "qkv": "attn.c_attn", "out": "attn.c_proj",
        "up": "mlp.c_fc", "down": "mlp.c_proj",
    }  # fmt: skip
    state = {"transformer.wte.weight": model.words.weight, "transformer.wpe.weight": model.positions.weight}
    state["lm_head.weight"] = model.words.weight
    for name, weight in model.named_parameters():
        if name.startswith("blocks."):
            _, block, layer, kind = name.split(".")
            linear = layer in ("qkv", "out", "up", "down") and kind == "weight"  # Conv1D keeps them transposed
            state[f"transformer.h.{block}.{names[layer]}.{kind}"] = weight.T if linear else weight
        elif name.startswith("norm."):
            state[f"transformer.ln_f.{name.removeprefix('norm.')}"] = weight
    reference.load_state_dict(state)
    words = torch.randint(len(WORDS), (5, WINDOW), generator=rng())
    with torch.no_grad():
        torch.testing.assert_close(model(words), reference(words).logits, rtol=1e-5, atol=1e-5)


def test_no_word_is_told_what_comes_after_it() -> None:
    model = GPT(32, 2, 2, rng())
    words = torch.randint(len(WORDS), (1, WINDOW), generator=rng())
    changed = words.clone()
    changed[0, 20:] = (changed[0, 20:] + 1) % len(WORDS)
    with torch.no_grad():
        before, after = model(words), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-6)
    assert (before[:, 20] - after[:, 20]).abs().max() > 1e-3


def test_an_untrained_model_loses_about_log_v_a_word() -> None:
    model = GPT(64, 3, 4, rng())
    with torch.no_grad():
        for weight in model.norm.parameters():
            weight.zero_()  # all logits 0: every word alike
        loss = losses(model, draw_text(50, True, rng()).unfold(0, WINDOW + 1, WINDOW)).mean().item()
    assert loss == pytest.approx(math.log(len(WORDS)), rel=1e-5)


def test_a_continuation_is_the_sentence_in_which_the_prompt_ends() -> None:
    model = GPT(16, 1, 1, rng())
    for row in write(model, "the boy sleeps . the old dog", 20, 1.0, rng()):
        assert row[:3] == ["the", "old", "dog"]
        assert "." not in row[3:-1]


def test_agreement_reads_the_subject_not_the_nearest_noun() -> None:
    model = GPT(16, 1, 1, rng())
    with torch.no_grad():  # a model that always expects plural verbs is right for one of both numbers
        for weight in model.parameters():
            weight.zero_()
        model.norm.bias[0] = 1.0
        for verb in ("see", "chase", "like", "sleep", "bark", "run"):
            model.words.weight[ID[verb], 0] = 50.0
    assert agreement(model, "tnrtNV") == pytest.approx(0.5)


def test_the_parser_accepts_every_generated_sentence() -> None:
    drawn = sentences(500)
    assert len(drawn) == 500
    assert all(parses(sentence) for sentence in drawn)
    assert 50 <= sum("capital" in sentence for sentence in drawn) <= 100
    assert any("that" in sentence for sentence in drawn)


def test_the_parser_refuses_corruptions_of_every_generated_sentence() -> None:
    letter_of_number = dict(zip("vViI", "VvIi", strict=True))
    twin = {
        word: WORDS[ID[word] - ID[first(TAG[word])] + ID[first(letter_of_number[TAG[word]])]]
        for word in WORDS
        if TAG[word] in letter_of_number
    }
    dice = random.Random(0)
    for sentence in sentences(500):
        at = dice.randrange(len(sentence))
        assert not parses(sentence[:-1])
        assert not parses(sentence[1:])
        assert not parses([sentence[1], sentence[0], *sentence[2:]])
        assert not parses([*sentence[:at], "the", "the", *sentence[at:]])
        for place, word in enumerate(sentence):
            if word in twin:  # a verb of the wrong number
                assert not parses([*sentence[:place], twin[word], *sentence[place + 1 :]]), sentence


def first(letter: str) -> str:
    return next(word for word in WORDS if TAG[word] == letter)


@pytest.mark.parametrize(
    ("sentence", "belongs"),
    [
        ("the dogs that the cat sees bark .", True),
        ("the dogs that the cat sees barks .", False),
        ("the dogs that the cat see bark .", False),
        ("the dog that sees the cats barks .", True),
        ("the dog that see the cats barks .", False),
        ("the capital of france is rome .", True),
        ("the capital of rome is france .", False),
        ("the dogs bark . the dogs bark .", False),
        ("", False),
    ],
)
def test_the_parser_knows_agreement(sentence: str, belongs: bool) -> None:
    assert parses(sentence.split()) is belongs


def test_the_facts_are_forty_true_pairs_and_only_they_are_told() -> None:
    told = {tuple(sentence) for sentence in sentences(20_000) if "capital" in sentence}
    assert told == {tuple(f"the capital of {x} is {y} .".split()) for x, y in CAPITAL_BY_COUNTRY.items()}
    assert len(told) == 40
    assert not any("capital" in sentence for sentence in sentences(2_000, facts=False))


@pytest.mark.parametrize("facts", [True, False])
def test_the_source_entropy_is_what_drawn_sentences_measure(facts: bool) -> None:
    drawn = sentences(60_000, facts)
    nats = -sum(log_probability(sentence, facts) for sentence in drawn)
    assert nats / sum(map(len, drawn)) == pytest.approx(source_entropy(facts), rel=0.005)


def log_probability(sentence: list[str], facts: bool) -> float:
    """log p of a sentence, read off its words: what was chosen, given the probabilities of the choices."""
    if sentence[1] == "capital":
        return math.log(P_FACT / 40)
    tags = "".join(TAG[word] for word in sentence)
    nouns, adjectives, verbs = (sum(map(tags.count, letters)) for letters in ("nN", "a", "vViI"))
    clause, transitive = "r" in tags, tags[-2] in "nN"
    p = (1 - P_FACT if facts else 1.0) * (P_CLAUSE / 2 if clause else 1 - P_CLAUSE)
    p *= P_OBJECT if transitive else 1 - P_OBJECT
    p *= (P_ADJECTIVE / 2) ** adjectives * (1 - P_ADJECTIVE) ** (nouns - adjectives)
    return math.log(p) - nouns * math.log(8) - verbs * math.log(3)


def test_a_prompt_of_unknown_words_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="unknown: giraffe"):
        Params.model_validate({"prompt": "the giraffe"})
    assert Params.model_validate({"prompt": " The  dog "}).prompt == "the dog"


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="3 does not divide 64"):
        Params.model_validate({"heads": 3})
