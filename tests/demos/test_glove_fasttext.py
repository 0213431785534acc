"""GloVe and fastText against closed forms and the papers' own examples; neither is installed as a package."""

from functools import cache

import pytest
import torch

from demos.contract import Result
from demos.language_models.glove_fasttext import (
    TOPICS,
    Params,
    count_pairs,
    count_slowly,
    explained,
    fasttext,
    glove,
    grams,
    left_out,
    run,
    weight,
    write_text,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

DEFAULTS = Params.model_validate({})


def silent(done: float, loss: float) -> None:
    """Report nothing."""


@cache
def result() -> Result:
    return run(DEFAULTS)


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "glove-fasttext")


@pytest.mark.parametrize("preset", ["no n-grams", "four dimensions"])
def test_unseen_words_need_n_grams_and_room(preset: str) -> None:
    outcome = run(Params.model_validate(Params.presets[preset].values))
    assert failed(outcome) == ["fastText knows words that it never read"]
    assert metric(outcome, "unseen words at their stem") < 0.3


def test_a_table_of_words_has_no_row_for_what_it_never_read_and_fasttext_has() -> None:
    assert {row[2] == "no vector" for row in result().tables[0].rows if row[1] == "no"} == {True}
    outcome = run(Params.model_validate({**Params.presets["fasttext"].values, "epochs": 20}))
    rows = {row[0]: row for row in outcome.tables[0].rows}
    assert "walk" in str(rows["walkable"][2])
    assert rows["xyz"][2] == "no vector"


def test_n_grams_are_those_of_the_paper_s_example() -> None:
    of_three = Params.model_validate({"min_n": 3, "max_n": 4}).model_copy(update={"max_n": 3})
    assert grams("where", of_three) == ["<where>", "<wh", "whe", "her", "ere", "re>"]
    assert len(grams("where", Params.model_validate({"max_n": 6}))) == 15  # 14 of three to six letters, and the word


def test_counts_weigh_a_pair_by_its_distance_and_stop_at_the_end_of_a_sentence() -> None:
    X = count_pairs([[0, 1, 2], [2, 0]], 3)
    expected = torch.tensor([[0, 1, 0.5 + 1], [1, 0, 1], [0.5 + 1, 1, 0]]).double()
    assert torch.equal(X, expected)
    numbers = [torch.randint(9, (7,), generator=rng(n)).numpy().tolist() for n in range(20)]
    assert torch.allclose(count_pairs(numbers, 9), count_slowly(numbers, 9), atol=1e-12)


def test_the_weight_rises_with_the_power_of_three_quarters_up_to_one() -> None:
    counts = torch.tensor([0.0, 50 / 16, 50, 1000])
    assert weight(counts, 50.0).numpy() == pytest.approx([0, 1 / 8, 1, 1])


def test_biases_alone_are_the_means_of_rows_and_columns() -> None:
    X = torch.rand(6, 6, generator=rng()).exp() + 1  # above x_max = 1, so every pair has weight 1
    params = Params.model_validate({"x_max": 1.0, "epochs": 100})
    _, said = glove(X, 0, params, rng(1), silent)
    logs = X.log()
    closed = logs.mean(1, keepdim=True) + logs.mean(0) - logs.mean()
    assert torch.allclose(said, closed, atol=0.02)


def test_correlation_is_that_of_numpy_where_all_weigh_alike_and_absent_pairs_do_not_count() -> None:
    X, said = torch.rand(2, 5, 5, generator=rng()) + 1.5
    expected = torch.corrcoef(torch.stack([X.log().flatten(), said.flatten()]))[0, 1].item()
    assert explained(said, X, 1.0) == pytest.approx(expected, abs=1e-5)
    more, X_more = (torch.cat([x, torch.zeros(1, 5)]) for x in (said, X))
    more[-1] = 99.0
    assert explained(more, X_more, 1.0) == pytest.approx(expected, abs=1e-5)


def test_words_with_the_same_neighbours_get_the_same_vector() -> None:
    counts = torch.tensor([[9.0, 9, 1, 40], [9, 9, 1, 40], [1, 1, 9, 4], [40, 40, 4, 1]])
    params = Params.model_validate({"min_n": 4, "max_n": 3, "dim": 8, "epochs": 100})  # whole words only
    vector = fasttext(counts, ["aa", "bb", "cc", "dd"], params, rng(1), silent)
    a, b, c, d = (torch.nn.functional.normalize(vector(word), dim=0) for word in ("aa", "bb", "cc", "dd"))
    assert a @ b > 0.95 > 0.8 > max(a @ c, a @ d)


def test_each_stem_lacks_one_form_in_the_text() -> None:
    unseen = [left_out(number, stem) for number, stem in enumerate(TOPICS)]
    assert unseen[:4] == ["walks", "painted", "cooking", "cleaner"]
    said = {word for words in write_text(rng()) for word in words}
    assert not said & set(unseen)
    assert set(TOPICS) <= said
