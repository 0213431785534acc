from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.contract import Lines, Result
from demos.llms.open_weights import (
    API,
    PROMPT,
    LanguageModel,
    Local,
    Params,
    load,
    perplexity,
    possible,
    quantise,
    quantised,
    rounded,
    run,
    save,
    unsay,
)
from demos.shared.grammar import ID, WORDS
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

safetensors: Any = import_module("safetensors.torch")  # untyped


@cache
def result(**params: str | int) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "open-weights")
    assert outcome.tables[2].rows[0][1] == "paris"
    assert metric(outcome, "bits a weight, scales included") == 4.5
    curve = outcome.figures[0]
    assert isinstance(curve, Lines)
    blocks, whole = (curve.series[name] for name in ("blocks of 32", "one scale for a matrix"))
    assert blocks[2] < whole[2]  # at four bits


def test_an_api_and_two_bits_each_break_one_claim() -> None:
    outcome = result(bits=2, access="api")
    assert failed(outcome) == ["The bits asked for cost little", "What you hold allows everything"]


def test_files_are_those_of_safetensors(tmp_path: Path) -> None:
    weights = LanguageModel(rng()).state_dict()
    save(weights, tmp_path / "ours")
    safetensors.save_file(weights, tmp_path / "theirs")
    for read in (safetensors.load_file(tmp_path / "ours"), load(tmp_path / "theirs"), load(tmp_path / "ours")):
        assert read.keys() == weights.keys()
        assert all(torch.equal(read[name], weights[name]) for name in weights)


@given(
    st.integers(2, 16), st.integers(8, 128), st.integers(1, 300), st.integers(0, 99), st.sampled_from([1e-3, 1.0, 50.0])
)
def test_a_weight_moves_by_half_a_step_at_most(bits: int, block: int, size: int, seed: int, spread: float) -> None:
    weight = spread * torch.randn(size, generator=rng(seed))
    integers, scale = quantise(weight, bits, block)
    assert integers.shape == (-(-size // block), block)
    assert integers.abs().max().item() <= 2 ** (bits - 1) - 1
    assert torch.equal(scale, scale.bfloat16().float())
    steps = scale.expand(-1, block).flatten()[:size]
    assert bool(((rounded(weight, bits, block) - weight).abs() <= steps * (0.5 + 1e-4)).all())


def test_eight_bits_for_each_row_are_torchs_own() -> None:
    weight = torch.randn(6, 64, generator=rng())
    reference = torch.fake_quantize_per_channel_affine(
        weight, quantise(weight, 8, 64)[1][:, 0], torch.zeros(6, dtype=torch.int32), 0, -127, 127
    )
    torch.testing.assert_close(rounded(weight, 8, 64), reference, rtol=0, atol=1e-6)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(rounded(torch.zeros(5, 7), 4, 8), torch.zeros(5, 7))


def test_vectors_are_left_alone_and_the_bytes_add_up() -> None:
    model = LanguageModel(rng())
    copy, size = quantised(model, 4, 32)
    for (name, weight), (_, other) in zip(model.state_dict().items(), copy.state_dict().items(), strict=True):
        assert torch.equal(weight, other) == (weight.dim() == 1), name
    matrices = sum(weight.numel() for weight in model.state_dict().values() if weight.dim() > 1)
    vectors = sum(weight.numel() for weight in model.state_dict().values() if weight.dim() == 1)
    assert size == matrices * 18 // 32 + 4 * vectors  # 16 bytes of integers and 2 of scale for 32 weights


def test_what_is_possible_is_found_by_trying() -> None:
    local = Local(LanguageModel(rng()))
    assert all(possible(local).values())
    api = API(local.complete)
    assert [name for name, ok in possible(api).items() if ok] == ["text"]
    assert api.requests == 2  # one for the text, and one that shows it is not private
    assert local.requests == 0


def test_an_edited_number_unsays_a_word() -> None:
    model = LanguageModel(rng())
    said = Local(model).complete(PROMPT)
    before = model.layers.state_dict()["4.bias"].clone()
    unsay(model, said)
    assert Local(model).complete(PROMPT) != said
    assert int((model.layers.state_dict()["4.bias"] != before).sum()) == 1


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary() -> None:
    model = LanguageModel(rng())
    with torch.no_grad():
        for weight in model.layers.parameters():
            weight.zero_()
    text = torch.tensor([ID["dog"], ID["the"]] * 20)
    assert perplexity(model, text) == pytest.approx(len(WORDS), rel=1e-5)
