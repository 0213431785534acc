"""A small encoder–decoder transformer and beam search. Source: Vaswani et al. 2017, arXiv:1706.03762, fig. 1 and §3.1.

Shared by demos that turn one sequence into another, and whose point is the task. Shapes: B sequences, S words of the
source, T of the target, width d, V words. Word 0 is padding,
1 begins and 2 ends a target.
"""

import torch
from torch import Tensor, nn

from demos.shared.transformer import Block, start

PAD, BEGIN, END = 0, 1, 2


class Reader(nn.Module):
    """Cross-attention with a residual: the target's vectors ask, the source's answer."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.ask, self.answer, self.out = nn.LayerNorm(d), *(nn.Linear(d, n) for n in (d, 2 * d, d))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d), memory (B, S, d), mask (B, S) -> x and the weights, mean of the heads (B, T, S)."""

        def split(vectors: Tensor) -> Tensor:
            return vectors.view(*vectors.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, n, d / heads)

        q, (k, v) = split(self.ask(self.norm(x))), (split(part) for part in self.answer(memory).chunk(2, dim=2))
        scores = q @ k.transpose(2, 3) / k.shape[3] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(dim=3)  # (B, heads, T, S)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2)), weights.mean(dim=1)


class EncoderDecoder(nn.Module):
    """Words of both languages in one table, which is also the output's; learned places of either side."""

    def __init__(self, words: int, length: int, d: int, layers: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, d), nn.Embedding(2 * length, d)
        self.length = length
        self.encoder, self.decoder = (nn.ModuleList(Block(d, heads) for _ in range(layers)) for _ in range(2))
        self.readers = nn.ModuleList(Reader(d, heads) for _ in range(layers))
        self.norm, self.encoded = nn.LayerNorm(d), nn.LayerNorm(d)
        start(self, rng)

    def encode(self, source: Tensor) -> Tensor:
        """The source's vectors (B, S, d) of its words (B, S); padding is not looked at."""
        x = self.words(source) + self.places.weight[: source.shape[1]]
        for block in self.encoder:
            x = block(x, (source != PAD)[:, None, None])
        return self.encoded(x)

    def decode(self, written: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the word after each one written (B, T), and where the last layer read (B, T, S)."""
        n = written.shape[1]
        past = torch.ones(n, n, dtype=torch.bool).tril()
        x, read = self.words(written) + self.places.weight[self.length : self.length + n], torch.empty(0)
        for block, reader in zip(self.decoder, self.readers, strict=True):
            x = block(x, past)
            x, read = reader(x, memory, mask)
        return self.norm(x) @ self.words.weight.T, read

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """Mean −log p of each target word and of its end, given those before. target (B, T) begins with BEGIN."""
        logits, _ = self.decode(target[:, :-1], self.encode(source), source != PAD)
        return nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)


@torch.no_grad()
def write(model: EncoderDecoder, source: Tensor, longest: int, beams: int = 1) -> Tensor:
    """The most probable targets that a beam search finds, (B, up to longest + 1) with BEGIN; one beam is greedy."""
    B, V = len(source), model.words.num_embeddings
    memory, mask = (x.repeat_interleave(beams, dim=0) for x in (model.encode(source), source != PAD))
    written = torch.full((B * beams, 1), BEGIN)
    score = torch.zeros(B, beams).index_fill(1, torch.arange(1, beams), -torch.inf)  # at first all beams are alike
    for _ in range(longest):
        log_p = model.decode(written, memory, mask)[0][:, -1].log_softmax(dim=1)  # (B · beams, V)
        done = (written == END).any(dim=1)
        log_p[done] = -torch.inf
        log_p[done, PAD] = 0.0  # a finished target keeps its score
        score, best = (score[:, :, None] + log_p.view(B, beams, V)).flatten(1).topk(beams, dim=1)  # (B, beams)
        rows = (torch.arange(B)[:, None] * beams + best // V).flatten()
        written = torch.cat([written[rows], (best % V).view(-1, 1)], dim=1)
        if (written == END).any(dim=1).all():
            break
    return written.view(B, beams, -1)[:, 0]
