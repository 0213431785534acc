import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from demos.bert.nlu_metrics import METRICS, NOISE, Params, accuracy, draw_tasks, f1, match, pearson, run, spearman, trap
from demos.contract import Cell, Result
from demos.shared import paraphrases as toy
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng

sklearn: Any = importlib.import_module("sklearn.metrics")
scipy: Any = importlib.import_module("scipy.stats")
squad: Any = importlib.import_module("torchmetrics.functional.text").squad


@cache
def result() -> Result:
    return run(Params.model_validate({}))


def scores(outcome: Result) -> dict[tuple[Cell, Cell], Cell]:
    return {(task, name): score for task, name, score, *_ in outcome.tables[0].rows}


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "nlu-metrics")


def test_without_pre_training_a_pair_of_sentences_is_no_better_judged_than_by_the_majority() -> None:
    outcome = run(Params.model_validate({**Params.presets["not pre-trained"].values, "task": "pair"}))
    assert failed(outcome) == ["Every task is learned"]
    assert len(outcome.tables[0].rows) == 8  # five tasks of two sentences, two of them with two metrics; the average


def test_with_classes_of_equal_size_accuracy_does_not_deceive() -> None:
    values = {**Params.presets["balanced"].values, "task": "single", "pretrain": False, "steps": 30}
    outcome = run(Params.model_validate(values))
    assert "Accuracy deceives" in failed(outcome)
    assert metric(outcome, "right nine times in ten: Matthews") == pytest.approx(0.8)


def test_labels_are_scored_as_scikit_learn_and_scipy_score_them() -> None:
    for seed, share in enumerate((0.5, 0.1, 0.9)):
        y = (torch.rand(200, generator=rng(seed)) < share).long()
        guess = torch.where(torch.rand(200, generator=rng(9 + seed)) < 0.3, 1 - y, y)
        assert accuracy(y, guess) == pytest.approx(sklearn.accuracy_score(y, guess), abs=1e-9)
        assert f1(y, guess) == pytest.approx(sklearn.f1_score(y, guess), abs=1e-9)
        assert METRICS["Matthews"](y, guess) == pytest.approx(sklearn.matthews_corrcoef(y, guess), abs=1e-9)
        assert METRICS["Matthews"](y, torch.zeros_like(y)) == sklearn.matthews_corrcoef(y, np.zeros(200)) == 0
        values = guess + torch.randint(4, (200,), generator=rng(5 + seed))  # many ties
        assert pearson(y, values) == pytest.approx(scipy.pearsonr(y, values).statistic, abs=1e-9)
        assert spearman(y, values) == pytest.approx(scipy.spearmanr(y, values).statistic, abs=1e-9)


def test_spearman_sees_the_order_alone() -> None:
    gold, doubled = torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 2, 4, 8])
    assert spearman(gold, doubled) == pytest.approx(1)
    assert pearson(gold, doubled) == pytest.approx(0.959, abs=5e-4)


@pytest.mark.parametrize(
    ("truth", "guess"),
    [("the Eiffel Tower", "eiffel tower."), ("Eiffel Tower", "Eiffel Tower in Paris"), ("a cat", "an apple"),
     ("no no yes", "no yes yes"), ("theatre", "the atre"), ("kind", "not kind")],
)  # fmt: skip
def test_answers_are_matched_as_squad_matches_them(truth: str, guess: str) -> None:
    expected = squad(
        [{"prediction_text": guess, "id": "0"}], [{"answers": {"answer_start": [0], "text": [truth]}, "id": "0"}]
    )
    exact, words = match(truth, guess)
    assert exact <= words
    assert (100 * exact, 100 * words) == pytest.approx((expected["exact_match"].item(), expected["f1"].item()))


def test_the_suite_score_is_the_mean_over_tasks_each_first_averaged_over_its_metrics() -> None:
    by_task: dict[Cell, list[float]] = {}
    for (task, name), score in scores(result()).items():
        if name:
            by_task.setdefault(task, []).append(float(score))
    assert len(by_task) == 9
    assert metric(result(), "suite score") == pytest.approx(np.mean([np.mean(values) for values in by_task.values()]))


def test_every_score_lies_in_its_interval_and_exact_match_below_f1() -> None:
    for *_, score, low, high, _ in result().tables[0].rows[:-1]:
        assert float(low) <= float(score) <= float(high)
    found = scores(result())
    assert float(found["which words? (SQuAD)", "exact match"]) < float(found["which words? (SQuAD)", "F1"])


def test_the_trap_has_the_numbers_of_its_four_counts() -> None:
    found = trap(0.9)  # of 10,000: TP 900, FN 100, FP 900, TN 8100
    assert found["always the majority: accuracy"] == found["right nine times in ten: accuracy"] == 0.9
    assert found["right nine times in ten: F1"] == pytest.approx(2 * 900 / (2 * 900 + 900 + 100))
    matthews = (900 * 8100 - 900 * 100) / np.sqrt(1800 * 1000 * 9000 * 8200)
    assert found["right nine times in ten: Matthews"] == pytest.approx(matthews)


def test_labels_say_what_the_texts_do_but_for_the_errors_of_raters() -> None:
    tasks = {task.name.split("(")[-1].rstrip(")"): task for task in draw_tasks(3000, rng())}
    concept = torch.tensor([0] * 6 + [k for kind in toy.KINDS for k, two in enumerate(kind) for _ in two])
    for name, slots in (("MRPC", 5), ("QQP", 3), ("QNLI", 3), ("RTE", 5)):
        x, y = tasks[name].x, tasks[name].y
        same = (concept[x[:, 1 : slots + 1]] == concept[x[:, 7 : slots + 7]]).all(dim=1)
        assert accuracy(y, same.long()) == pytest.approx(1 - NOISE, abs=0.03), name
    for name, share in (("CoLA", 0.7), ("MRPC", 0.68), ("QQP", 0.37), ("QNLI", 0.5)):
        seen = share * (1 - NOISE) + (1 - share) * NOISE
        assert tasks[name].y.float().mean().item() == pytest.approx(seen, abs=0.03), name
    assert tasks["MNLI"].y.bincount().numpy().tolist() == pytest.approx([1000] * 3, abs=100)
    shared = (concept[tasks["STS-B"].x[:, 1:6]] == concept[tasks["STS-B"].x[:, 7:12]]).sum(dim=1)
    assert (tasks["STS-B"].y - shared).std().item() == pytest.approx(0.5, abs=0.03)
    asked, spans = tasks["SQuAD"].x[:, 1], tasks["SQuAD"].y
    bare = tasks["SQuAD"].x[:, 6] == toy.WORDS.index("is")
    first = torch.where(asked == toy.WHO, 3, torch.where(asked == toy.WHOM, 5, torch.where(bare, 7, 6)))
    assert (spans[:, 1] == torch.where(asked == toy.WHO, 3, torch.where(asked == toy.WHOM, 5, 7))).all()
    assert accuracy(spans[asked != toy.WHO, 0], first[asked != toy.WHO]) == pytest.approx(1 - NOISE, abs=0.02)


def test_sentences_have_the_meaning_that_they_were_given() -> None:
    meanings = torch.tensor([[0, 1, 2, 2, 1], [0, 1, 2, 0, 3], [0, 1, 2, 1, 0]])
    assert toy.praises(meanings).numpy().tolist() == [False, False, True]  # "not kind", "is bad", "very good"
    assert (toy.praises(toy.deny(meanings)) != toy.praises(meanings)).all()
    numbers: list[int] = toy.say(meanings[:1], rng())[0].numpy().tolist()
    spoken = zip(numbers, ("dog hound", "watching observing", "boy lad", "not", "kind gentle"), strict=True)
    assert all(toy.WORDS[number] in synonyms.split() for number, synonyms in spoken)
    drawn = toy.draw_meanings(2000, rng())
    assert (drawn[:, toy.SUBJECT] != drawn[:, toy.OBJECT]).all()
    changed = toy.alter(drawn, torch.arange(5) == toy.VERB, rng(1)) != drawn
    assert changed[:, toy.VERB].all()
    assert changed.sum() == 2000
    assert toy.ask(torch.tensor([[6, 18, 8, 28, 30]])).numpy().tolist() == [[6, 18, 8, toy.WORDS.index("is"), toy.HOW]]
