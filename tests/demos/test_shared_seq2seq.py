"""The shared encoder–decoder against torch's attention, and its beam search against enumeration."""

from itertools import product

import torch
from torch import nn

from demos.shared.seq2seq import BEGIN, END, PAD, EncoderDecoder, Reader, write
from tests.demos.outcomes import rng


def model(words: int = 6) -> EncoderDecoder:
    return EncoderDecoder(words, 8, 16, 1, 2, rng())


def test_cross_attention_is_torchs() -> None:
    reader, reference = Reader(16, 2), nn.MultiheadAttention(16, 2, batch_first=True)
    reference.load_state_dict({
        "in_proj_weight": torch.cat([reader.ask.weight, reader.answer.weight]),
        "in_proj_bias": torch.cat([reader.ask.bias, reader.answer.bias]),
        "out_proj.weight": reader.out.weight, "out_proj.bias": reader.out.bias,
    })  # fmt: skip
    x, memory = torch.randn(3, 4, 16, generator=rng(1)), torch.randn(3, 5, 16, generator=rng(2))
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    got, weights = reader(x, memory, mask)
    expected, their_weights = reference(reader.norm(x), memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(got, x + expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights, their_weights, atol=1e-5, rtol=0)


def test_padding_of_the_source_changes_nothing() -> None:
    source = torch.tensor([[3, 4, 5]])
    padded = nn.functional.pad(source, (0, 4), value=PAD)
    target = torch.tensor([[BEGIN, 3, 4, END]])
    torch.testing.assert_close(model().loss(source, target), model().loss(padded, target), atol=1e-5, rtol=0)


def test_a_wide_beam_finds_the_most_probable_target_of_all() -> None:
    some, source, longest = model(), torch.tensor([[3, 4], [5, 5]]), 3
    memory, mask = some.encode(source), source != PAD

    def score(row: int, target: tuple[int, ...]) -> float:
        inputs = torch.tensor([[BEGIN, *target]])
        log_p = some.decode(inputs[:, :-1], memory[row, None], mask[row, None])[0].log_softmax(dim=2)[0]
        return sum(log_p[place, word].item() for place, word in enumerate(target))

    finished = [target for n in range(1, longest + 1) for target in product(range(6), repeat=n)
                if END not in target[:-1] and (target[-1] == END or n == longest)]  # fmt: skip
    found = write(some, source, longest, beams=6**longest // 6)
    for row, words in enumerate(found.numpy().tolist()):
        ended = words[1 : words.index(END) + 1] if END in words else words[1:]
        best = max(finished, key=lambda target: score(row, target))
        assert score(row, tuple(ended)) >= score(row, best) - 1e-4
