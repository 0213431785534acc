"""sinusoidal-encoding against transformers' own, and what a code of sines alone cannot do."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding

from demos.contract import Cell, Result
from demos.transformers.sinusoidal_encoding import Params, by_the_formula, encode_positions, run, shift_map
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "sinusoidal-encoding")


def test_sines_alone_have_no_shift_map_and_no_measure_of_distance() -> None:
    assert failed(result(**Params.presets["sines alone"].values)) == [
        "The code is the paper's formula, entry by entry",
        "One rotation carries every position k places on",
        "PE(p)·PE(q) depends on p - q alone",
        "Every code has the same length, ‖PE‖² = d/2",
        "Wavelengths run from 2π to 2π base^((d-2)/d)",
        "No two positions share a code",
    ]


@pytest.mark.parametrize("name", ["short wavelengths", "narrow"])
def test_other_settings_keep_the_claims(name: str) -> None:
    assert failed(result(**Params.presets[name].values)) == []


def test_a_smaller_base_shortens_the_waves() -> None:
    assert metric(result(base=1000.0), "longest wavelength") < metric(result(), "longest wavelength") / 5


@pytest.mark.parametrize("d", [8, 64])
def test_the_code_is_that_of_m2m100_with_its_halves_interleaved(d: int) -> None:
    # fairseq's frequencies end at 1/10000 itself, so its base is another: base^(2i/d) = 10000^(i / (d/2 - 1))
    base = 10000 ** ((d / 2) / (d / 2 - 1))
    theirs: Any = M2M100SinusoidalPositionalEmbedding.get_embedding(50, d)
    sines, cosines = theirs.chunk(2, dim=1)
    ours = encode_positions(50, d, base).float()
    torch.testing.assert_close(ours[:, 0::2], sines, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[:, 1::2], cosines, rtol=0, atol=1e-5)


def test_entries_known_by_hand() -> None:
    code = encode_positions(3, 4, 100.0)
    assert code[0].numpy().tolist() == [0, 1, 0, 1]
    assert code[2].numpy().tolist() == pytest.approx([0.9092974, -0.4161468, 0.1986693, 0.9800666], abs=1e-7)
    assert by_the_formula(2, 2, 4, 100.0) == pytest.approx(0.1986693, abs=1e-7)


def test_shift_maps_are_rotations_that_add_up() -> None:
    three, five = shift_map(3, 16, 1e4), shift_map(5, 16, 1e4)
    torch.testing.assert_close(three @ five, shift_map(8, 16, 1e4))
    torch.testing.assert_close(three @ three.T, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("wrong", [{"d_model": 9}, {"max_len": 16, "offset": 16}])
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"d_model|offset"):
        Params.model_validate(wrong)
