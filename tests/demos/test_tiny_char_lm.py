"""tiny-char-lm against torch.nn.GRU and Python's parser, and what is left without memory or at a high temperature."""

import pytest
import torch
from pydantic import ValidationError

from demos.contract import Bars, Cell, Lines, Result
from demos.fundamentals.tiny_char_lm import (
    ALPHABETS,
    GRU,
    Params,
    bits,
    draw_lines,
    evaluates,
    gap_to_torch,
    is_python,
    is_sentence,
    run,
    write,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    outcome = result()
    assert_claims_hold_as_listed(outcome, "tiny-char-lm")
    curves = outcome.figures[0]
    assert isinstance(curves, Lines)
    assert curves.series["held out"][0] > curves.series["held out"][-1]


def test_code_parses_before_it_runs() -> None:
    outcome = result(steps=300, **Params.presets["code"].values)
    assert failed(outcome) == []
    by_name = {metric.name: metric.value for metric in outcome.metrics}
    # brackets are learned at once, that a name must have been assigned only now and then
    assert by_name["share of lines that run"] < by_name["valid_share"] - 0.1
    rows = outcome.tables[0].rows
    assert [row[2] for row in rows] == [is_python(str(row[1])) for row in rows]


@pytest.mark.parametrize("characters", [5, 29])
def test_the_cell_is_torchs_gru(characters: int) -> None:
    model = GRU(characters, True, rng())
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=rng(weight.numel()))
    text = torch.randint(characters, (3, 40), generator=rng())
    assert gap_to_torch(model, text) <= 1e-5
    assert gap_to_torch(GRU(characters, False, rng()), text) > 1e-3  # no memory is another model


def test_a_state_carried_on_continues_the_text() -> None:
    model = GRU(7, True, rng())
    text = torch.randint(7, (2, 12), generator=rng())
    whole, last = model(text)
    first, state = model(text[:, :5])
    second, end = model(text[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize("corpus", ["text", "code"])
def test_training_lines_are_well_formed_and_in_the_alphabet(corpus: str) -> None:
    lines = draw_lines(corpus, 500, rng())
    assert len(lines) == 500
    assert set("".join(lines)) <= set(ALPHABETS[corpus])
    assert all((is_sentence if corpus == "text" else evaluates)(line) for line in lines)
    assert len(set(lines)) > 200


@pytest.mark.parametrize(
    ("line", "parsed", "runs"),
    [
        ("a = 3 * (4 - 1); x = a + a", True, True),
        ("a = 3; x = b + 1", True, False),
        ("x = 3(4)", True, False),
        ("a = (3 + 4", False, False),
        ("a = 3 +; x = a", False, False),
        ("", False, False),
        ("7 + 1", True, False),
    ],
)
def test_the_judges_of_code(line: str, parsed: bool, runs: bool) -> None:
    assert (is_python(line), evaluates(line)) == (parsed, runs)


@pytest.mark.parametrize("line", ["the dog sleep", "the dgo sleeps", "", "the dog  sleeps"])
def test_what_is_no_sentence_is_refused(line: str) -> None:
    assert is_sentence("the dog sleeps")
    assert not is_sentence(line)


def test_an_untrained_model_costs_about_the_logarithm_of_its_alphabet() -> None:
    text = torch.randint(29, (4_000,), generator=rng())
    assert bits(GRU(29, True, rng()), text) == pytest.approx(4.86, abs=0.05)


def test_lines_begin_with_the_prompt_which_must_be_in_the_alphabet() -> None:
    model = GRU(len(ALPHABETS["text"]), True, rng())
    lines, entropy = write(model, ALPHABETS["text"], "the d", 5, 1.0, rng())
    assert entropy == pytest.approx(4.86, abs=0.05)
    assert all(line.startswith("the d") and "\n" not in line for line in lines)
    for wrong in ("The dog", "dog\n"):
        with pytest.raises(ValidationError, match="is not in"):
            Params.model_validate({"prompt": wrong})


def test_without_memory_there_are_no_sentences_and_variety_grows_with_temperature() -> None:
    outcome = result(steps=100, **Params.presets["no memory"].values)
    assert "Generated lines that the grammar or Python's parser accepts" in failed(outcome)
    assert "The cell is torch.nn.GRU with copied weights" in failed(outcome)
    assert "Held-out bits a character over those by character frequency" in failed(outcome)
    variety = outcome.figures[1]
    assert isinstance(variety, Bars)
    assert max(variety.series["valid"]) < 0.1
