"""Distillation beside transformers' DistilBertModel and torch's kl_div; texts, copied layers and gradients."""

import importlib
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div

from demos.bert.distilbert_distillation import (
    HEADS,
    LAYERS,
    LENGTH,
    ODDS,
    SUBJECTS,
    Classifier,
    D,
    Encoder,
    Lesson,
    Params,
    V,
    count,
    fit,
    gradient_norm,
    hire,
    run,
    soft_loss,
    write,
)
from demos.contract import Bars, Result
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

transformers: Any = importlib.import_module("transformers")


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "distilbert-distillation")


def test_without_soft_answers_the_student_stays_behind() -> None:
    hard = run(Params.model_validate(Params.presets["hard labels"].values))
    assert failed(hard) == ["The student comes close", "Soft answers say more than right ones"]


def test_the_teachers_answer_flattens_as_the_temperature_rises() -> None:
    bars = result().figures[0]
    assert isinstance(bars, Bars)
    peaks = [max(values) for values in bars.series.values()]
    assert peaks == sorted(peaks, reverse=True)
    assert all(sum(values) == pytest.approx(1, abs=1e-5) for values in bars.series.values())


def test_parameters_are_those_of_transformers_at_the_published_sizes() -> None:
    with torch.device("meta"):
        distilbert = transformers.DistilBertModel(transformers.DistilBertConfig())
        bert = transformers.BertModel(transformers.BertConfig())
    assert metric(result(), "parameters at BERT-base's size") == count(distilbert) / 1e6 == 66.36288
    assert metric(result(), "parameters of BERT-base") == count(bert) / 1e6 == 109.48224


def test_words_come_from_subjects_near_the_texts_own_with_the_stated_odds() -> None:
    words, subjects = write(5000, rng())
    away = (words // (V // len(SUBJECTS)) - subjects[:, None]) % len(SUBJECTS)
    share = away.flatten().bincount(minlength=len(SUBJECTS)) / away.numel()
    assert ODDS.sum().item() == pytest.approx(1)
    torch.testing.assert_close(share, ODDS, atol=0.01, rtol=0)
    assert (words.flatten().bincount(minlength=V) > 0).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_soft_loss_is_torchs_kl_times_t_squared_and_its_gradient_t_times_the_difference(temperature: float) -> None:
    student, teacher = torch.randn(2, 20, 8, generator=rng()).mul(3).unbind()
    q, p = (student / temperature).log_softmax(dim=1), (teacher / temperature).softmax(dim=1)
    expected = temperature**2 * kl_div(q, p, reduction="batchmean")
    torch.testing.assert_close(soft_loss(student, teacher, temperature), expected)
    by_hand = temperature * (q.exp() - p) / len(student)
    assert gradient_norm(student, teacher, temperature) == pytest.approx(by_hand.square().sum().sqrt().item(), rel=1e-4)
    assert soft_loss(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("layers", "taken"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3])])
def test_a_student_starts_from_evenly_spaced_layers_and_leaves_its_teacher_alone(layers: int, taken: list[int]) -> None:
    teacher = Classifier(LAYERS, rng())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = hire(teacher, layers, "teacher", rng(1))
    for number, source in enumerate(taken):
        theirs = teacher.encoder.layers[source].state_dict()
        for name, value in student.encoder.layers[number].state_dict().items():
            assert torch.equal(value, theirs[name])
    assert torch.equal(student.head.weight, teacher.head.weight)
    assert not torch.equal(hire(teacher, layers, "random", rng(1)).head.weight, teacher.head.weight)
    texts, subjects = write(50, rng(2))
    fit(student, texts, subjects, Lesson(teacher, 0.7, 2.0, 10), rng(3), lambda _step, _loss: None)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not torch.equal(student.head.weight, teacher.head.weight)


def test_the_loss_weighs_soft_cosine_and_hard() -> None:
    teacher, student = Classifier(LAYERS, rng()), Classifier(2, rng(1))
    texts, subjects = write(30, rng(2))
    with torch.no_grad():
        (logits, x), (said, seen) = student(texts), teacher(texts)
        hard = torch.nn.functional.cross_entropy(logits, subjects)
        cosine = torch.nn.functional.cosine_embedding_loss(x, seen, torch.ones(30))
        expected = 0.6 * (soft_loss(logits, said, 3.0) + cosine / 5) + 0.4 * hard
        torch.testing.assert_close(Lesson(teacher, 0.6, 3.0, 1).loss(student, texts, subjects), expected)
        torch.testing.assert_close(Lesson(teacher, 0.0, 3.0, 1).loss(student, texts, subjects), hard)


def test_the_encoder_is_that_of_transformers_with_the_same_weights() -> None:
    ours = Classifier(LAYERS, rng()).encoder
    for name, weight in ours.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5, generator=rng(1))
    config = transformers.DistilBertConfig(
        vocab_size=V, max_position_embeddings=LENGTH, dim=D, n_heads=HEADS, n_layers=LAYERS, hidden_dim=4 * D,
        dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    reference = transformers.DistilBertModel(config).eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    pairs: list[tuple[Any, str]] = [
        (ours.words, "embeddings.word_embeddings"),
        (ours.places, "embeddings.position_embeddings"),
        (ours.norm, "embeddings.LayerNorm"),
    ]
    layers: list[Any] = list(ours.layers)
    for number, layer in enumerate(layers):
        at = f"transformer.layer.{number}"
        pairs += [
            (layer.self_attn.out_proj, f"{at}.attention.out_lin"), (layer.norm1, f"{at}.sa_layer_norm"),
            (layer.linear1, f"{at}.ffn.lin1"), (layer.linear2, f"{at}.ffn.lin2"),
            (layer.norm2, f"{at}.output_layer_norm"),
        ]  # fmt: skip
        weights, biases = (part.chunk(3) for part in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias))
        for name, weight, bias in zip(("q_lin", "k_lin", "v_lin"), weights, biases, strict=True):
            reference.get_submodule(f"{at}.attention.{name}").load_state_dict({"weight": weight, "bias": bias})
    for part, theirs in pairs:
        reference.get_submodule(theirs).load_state_dict(part.state_dict())
    words, _ = write(5, rng(2))
    assert isinstance(ours, Encoder)
    with torch.no_grad():
        torch.testing.assert_close(ours(words), reference(words).last_hidden_state, atol=1e-5, rtol=1e-5)
