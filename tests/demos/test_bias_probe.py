"""Bias learned from data: the corpus, what the model prefers, the effect size, and both mitigations."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from demos.contract import Result
from demos.gpt.bias_probe import (
    FRAMES,
    HALF,
    HEADS,
    ID,
    LENGTH,
    NAMES,
    PRONOUNS,
    ROLES,
    SENTENCES,
    WORDS,
    D,
    Params,
    encode,
    preference,
    project,
    run,
    states,
    swap_groups,
    vectors,
    weat,
    write_corpus,
)
from demos.shared.transformer import Transformer
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

scipy: Any = importlib.import_module("scipy.stats")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def model() -> Transformer:
    return Transformer(len(WORDS), LENGTH, D, 1, HEADS, rng(), causal=True)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "bias-probe")


def test_a_balanced_corpus_leaves_nothing_to_follow() -> None:
    outcome = run(Params.model_validate({**Params.presets["balanced corpus"].values, "steps": 200}))
    assert "The model follows its corpus" in failed(outcome)
    assert metric(outcome, "gap") < 0.06
    assert metric(result(), "gap") > 0.12


def test_projection_takes_also_what_the_text_has_told() -> None:
    outcome = run(Params.model_validate({**Params.presets["projected"].values, "steps": 100}))
    assert failed(outcome) == ["A name still tells its pronoun"]
    assert metric(outcome, "gap") < 1e-5
    assert metric(outcome, "gap without mitigation") > 0.1


def test_what_is_told_of_a_mitigation_is_its_row_of_the_table() -> None:
    rows = {row[0]: row[1:] for row in result().tables[0].rows}
    assert list(rows) == ["none", "augment", "project"]
    assert list(rows["none"][:3]) == [metric(result(), name) for name in ("effect size", "p-value", "gap")]


def test_the_corpus_has_the_shares_that_were_asked_for() -> None:
    corpus, share = write_corpus(1.0, rng())
    assert corpus.shape == (SENTENCES, LENGTH)
    assert share[0] == 1
    assert share[-1] == 0
    asked = 0.5 + 0.3 * torch.linspace(1, -1, len(ROLES))
    _, share = write_corpus(0.8, rng())
    torch.testing.assert_close(share, asked, atol=0.09, rtol=0)


def test_a_share_counts_the_mentions_of_a_role_and_a_name_has_its_group_s_pronoun() -> None:
    corpus, share = write_corpus(0.8, rng())
    groups = [{ID[word] for word in PRONOUNS[group] + NAMES[group]} for group in (0, 1)]
    mentions = torch.zeros(len(ROLES), 2)
    for row in corpus.numpy().tolist():
        told = [group for group in (0, 1) if groups[group] & set(row)]
        assert len(told) == 1  # never both in one sentence
        for role in set(row) & {ID[role] for role in ROLES}:
            mentions[ROLES.index(WORDS[int(role)]), told[0]] += 1
    torch.testing.assert_close(share, mentions[:, 0] / mentions.sum(dim=1))


def test_swapping_turns_shares_round_and_twice_is_nothing() -> None:
    corpus, _ = write_corpus(0.8, rng())
    swapped = swap_groups(corpus)
    torch.testing.assert_close(swap_groups(swapped), corpus)
    texts = [encode([text]) for text in ("ari said that ze was late .", "eli said that vo was late .")]
    assert torch.equal(swap_groups(texts[0]), texts[1])
    assert ((swapped != corpus).sum(dim=1) >= 1).all()


@torch.no_grad()
def test_a_preference_is_the_model_s_own_probability_of_one_pronoun_among_two() -> None:
    gpt = model()
    expected = list[float]()
    for before, form, _ in FRAMES:
        prompt = torch.tensor([[ID[word] for word in f"the pilot {before}".split()]])
        p = gpt(prompt)[0, -1].softmax(dim=0)
        one, other = (p[ID[PRONOUNS[group][form]]].item() for group in (0, 1))
        expected.append(one / (one + other))
    h = states(gpt, ["the pilot", "the farmer"])
    assert h.shape == (len(FRAMES), 2, D)
    assert preference(h, gpt)[0].item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_half_the_temperature_squares_the_odds() -> None:
    gpt, h = model(), torch.zeros(1, 1, D)
    difference = vectors(gpt, PRONOUNS[0][:1]) - vectors(gpt, PRONOUNS[1][:1])
    h[0, 0] = np.log(4) * difference[0] / difference.square().sum()  # odds 80 : 20 for the first form
    h = h.expand(len(FRAMES), 1, D)
    with torch.no_grad():
        for word in (*PRONOUNS[0][1:], *PRONOUNS[1][1:]):
            gpt.words.weight[ID[word]] = gpt.words.weight[ID[PRONOUNS[word in PRONOUNS[1]][0]]]
    assert preference(h, gpt).item() == pytest.approx(0.8, abs=1e-5)
    assert preference(h, gpt, 0.5).item() == pytest.approx(16 / 17, abs=1e-5)


def test_projection_removes_what_parts_the_groups_and_nothing_else() -> None:
    gpt, h = model(), torch.randn(len(FRAMES), 5, D, generator=rng(1))
    left = project(h, gpt)
    difference = vectors(gpt, PRONOUNS[0]) - vectors(gpt, PRONOUNS[1])
    assert (left @ difference.T).abs().max() < 1e-4
    torch.testing.assert_close(project(left, gpt), left, atol=1e-5, rtol=0)
    torch.testing.assert_close(preference(left, gpt), torch.full((5,), 0.5))
    removed = (h - left).flatten(0, 1)
    assert np.linalg.matrix_rank(removed.numpy(), tol=1e-3) == len(difference)


@pytest.mark.parametrize("lean", [0.0, 0.3, 3.0])
def test_effect_size_and_p_value_are_those_of_scipy(lean: float) -> None:
    gpt, h = model(), torch.randn(len(FRAMES), len(ROLES), D, generator=rng(2))
    h[:, :HALF] += lean * vectors(gpt, PRONOUNS[0]).mean(dim=0)
    unit = [torch.nn.functional.normalize(vectors(gpt, group), dim=1).double() for group in PRONOUNS]
    role = torch.nn.functional.normalize(h.mean(dim=0), dim=1).double()
    s = ((role @ unit[0].T).mean(dim=1) - (role @ unit[1].T).mean(dim=1)).numpy()

    def gap(x: Any, y: Any, axis: int) -> Any:
        return x.mean(axis=axis) - y.mean(axis=axis)

    test = scipy.permutation_test((s[:HALF], s[HALF:]), gap, alternative="greater", n_resamples=np.inf, vectorized=True)
    effect, p = weat(h, gpt)
    assert p == pytest.approx(test.pvalue, abs=1e-9)
    assert effect == pytest.approx(test.statistic / s.std(ddof=1), abs=1e-5)
