"""clip-tiny against the loss of transformers' CLIP, and what labels and few pairs break."""

import pytest
import torch
from transformers.models.clip import modeling_clip

from demos.contract import Cell, Heatmap, Result
from demos.stable_diffusion.clip_tiny import (
    CLASSES,
    CLIP,
    HELD_OUT,
    NAMES,
    WORDS,
    Params,
    contrastive_loss,
    draw_digits,
    draw_moves,
    draw_pairs,
    draw_places,
    plane,
    run,
    tokenize,
)
from tests.demos.outcomes import assert_claims_hold_as_listed, failed, metric, rng


def result(**params: Cell) -> Result:
    return run(Params.model_validate(params))


def test_every_claim_holds_at_the_defaults() -> None:
    assert_claims_hold_as_listed(result(), "clip-tiny")


def test_a_class_with_a_word_of_its_own_is_never_told_untrained() -> None:
    outcome = result(captions="labels")
    assert failed(outcome) == [
        "Matching captions rank first of 24",
        "A pair of colour and shape kept out of training is told of 30",
    ]
    assert metric(outcome, "zero-shot") < 0.05
    assert metric(outcome, "retrieval") <= 0.5  # a label does not name the side


def test_a_hundred_pairs_are_too_few() -> None:
    outcome = result(pairs=100)
    assert {"Matching captions rank first of 24", "More pairs, better retrieval"} <= set(failed(outcome))


@pytest.mark.parametrize("probe", ["zero-shot", "retrieval", "ocr", "action", "places"])
def test_a_probe_leads_with_its_own_figure(probe: str) -> None:
    first = result(probe=probe, steps=50).figures[0]
    assert isinstance(first, Heatmap)
    names = {"zero-shot": NAMES, "retrieval": CLASSES["retrieval"]}.get(probe, CLASSES[probe])
    assert list(first.column_labels) == names


def test_the_loss_is_that_of_transformers() -> None:
    images, texts = torch.randn(2, 12, 8, generator=rng())
    logits_of_texts = 7.0 * texts @ images.T
    expected = modeling_clip.image_text_contrastive_loss(logits_of_texts)
    torch.testing.assert_close(contrastive_loss(images, texts, torch.tensor(7.0)), expected, rtol=0, atol=1e-5)


def test_embeddings_have_length_one_and_padding_says_nothing() -> None:
    model = CLIP(rng())
    x, texts, _ = draw_pairs(60, rng(1))
    torch.testing.assert_close(model.encode_images(x).square().sum(dim=1), torch.ones(60))
    ids = tokenize(texts, "sentences")
    torch.testing.assert_close(model.encode_texts(ids).square().sum(dim=1), torch.ones(60))
    torch.testing.assert_close(model.encode_texts(ids[:, :7]), model.encode_texts(ids))


def test_the_held_out_pair_is_in_no_training_pair_and_half_are_shapes() -> None:
    x, texts, classes = draw_pairs(600, rng())
    assert len(x) == len(texts) == len(classes) == 600
    assert not any({"green", "ring"} <= set(text.split()) for text in texts)
    assert HELD_OUT not in classes
    assert sum(of in NAMES for of in classes) == 300
    others = {of for kind in ("ocr", "action", "places") for of in CLASSES[kind]}
    assert set(classes) == (set(NAMES) - {HELD_OUT}) | others


def test_labels_are_one_word_for_each_class() -> None:
    ids = tokenize([*NAMES, "a picture of a green ring", "the digit nine"], "labels")
    assert (ids[:, 1:] == 0).all()
    assert ids[30, 0] == ids[NAMES.index("green ring"), 0]
    assert ids[31, 0] == len(WORDS) + 30 + 9
    assert len(set(ids[:30, 0].numpy().tolist())) == 30


def test_two_frames_move_as_their_caption_says() -> None:
    x, way = draw_moves(200, rng())
    columns = torch.arange(16.0).expand(16, 16)
    ink = (x[:, :2] + 1) / 2  # both frames
    centre = torch.stack([(ink * grid).sum(dim=(2, 3)) / ink.sum(dim=(2, 3)) for grid in (columns, columns.T)])
    dx, dy = centre[:, :, 1] - centre[:, :, 0]  # (200,) each
    seen = torch.where(dx.abs() > dy.abs(), (dx > 0).long(), 2 + (dy > 0).long())
    assert torch.equal(seen, way)


def test_places_and_digits_are_of_the_class_that_is_said() -> None:
    x, place = draw_places(400, rng())
    means = torch.stack([x[place == n].mean(dim=(0, 2, 3)) for n in range(4)])  # (4, 3)
    assert means.mean(dim=1).argmax() == 3  # snow is the brightest,
    assert (means[1].argmax(), means[1].mean().item() < 0) == (1, True)  # a forest green and dark
    held, _ = draw_digits(50, rng(), held=True)
    assert held.shape == (50, 3, 16, 16)


def test_the_plane_holds_the_two_directions_of_largest_spread() -> None:
    spread = torch.tensor([5.0, 0.1, 2.0, 0.1])
    x = torch.randn(500, 4, generator=rng()) * spread
    flat, tail = plane(x[:300], x[300:])
    assert (len(flat), len(tail)) == (300, 200)
    torch.testing.assert_close(torch.cat([flat, tail]).std(dim=0), torch.tensor([5.0, 2.0]), rtol=0.1, atol=0)
