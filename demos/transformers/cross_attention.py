"""Cross-attention: queries from the decoder, keys and values from the encoder

Question: How does a decoder read a source sequence of another length?
Source: Vaswani et al. 2017, arXiv:1706.03762, §3.2.3; alignments: Bahdanau et al. 2014, arXiv:1409.0473, §3.1.
Watch: The alignment, which source place each decoder step looks at. The target is every second word of the source, from
    the last to the first, translated. Shuffle the source vectors and the alignment moves with them. Take the places
    out of the source vectors and there is nothing to align by; zero the vectors and there is nothing to read.

The encoder is cut down to vectors of words and places, the decoder to its queries: what learns here is the bridge.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

WORDS, WIDTH, LONGEST, BATCH, TESTED = 20, 32, 16, 64, 1_000  # words of either language; sentences
START = WORDS  # the decoder's first input


class Params(DemoParams):
    source_len: int = Field(8, ge=4, le=LONGEST, description="Words of the source; the target has half as many")
    heads: int = Field(2, ge=1, le=8, description="Heads; they divide the width of 32")
    steps: int = Field(300, ge=50, le=1500, description="Training steps of 64 sentences")
    shuffle_source: bool = Field(False, description="Permute the encoder's vectors before they are read")
    places: bool = Field(True, description="Add the vector of its place to each source word")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences, dictionary and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no places": Preset("A bag of words: no alignment to be learned, so those claims fail", {"places": False}),
        "shuffled": Preset("The alignment follows the moved vectors: no claim fails", {"shuffle_source": True}),
        "longer source": Preset("Twice the source, the same kind of map", {"source_len": 16}),
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if WIDTH % self.heads:
            raise ValueError(f"heads must divide {WIDTH}, and {self.heads} does not")
        return self


class CrossAttention(nn.Module):
    """§3.2.3: who asks is one sequence, who answers is another. The matrices are §3.2.2's."""

    def __init__(self, d: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.W_Q, self.W_K, self.W_V, self.W_O = (
            nn.Parameter(torch.randn(d, d, generator=rng) / math.sqrt(d)) for _ in range(4)
        )

    def split(self, x: Tensor) -> Tensor:
        """(B, n, d) -> (B, h, n, d/h)."""
        return x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """K and V of the encoder's vectors (B, S, d): they do not depend on the decoder. (B, h, S, d/h) each."""
        return self.split(memory @ self.W_K), self.split(memory @ self.W_V)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of the decoder's x (B, T, d), K and V of the encoder -> output (B, T, d), weights (B, h, T, S)."""
        q = self.split(x @ self.W_Q)  # (B, h, T, d/h)
        weights = (q @ keys.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (B, h, T, S): T rows, S columns
        return (weights @ values).transpose(1, 2).flatten(2) @ self.W_O, weights


class Translator(nn.Module):
    """Source vectors, decoder queries, the cross-attention between them, and logits of the target words."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.places = params.places
        self.source_words, self.source_places, self.target_words, self.target_places = (
            nn.Parameter(torch.randn(n, WIDTH, generator=rng)) for n in (WORDS, LONGEST, WORDS + 1, LONGEST // 2)
        )
        self.cross = CrossAttention(WIDTH, params.heads, rng)
        self.read = nn.Parameter(torch.randn(WIDTH, WORDS, generator=rng) / math.sqrt(WIDTH))

    def encode(self, source: Tensor) -> Tensor:
        """source (B, S) -> memory (B, S, d)."""
        memory = self.source_words[source]
        return memory + self.source_places[: source.shape[1]] if self.places else memory

    def queries(self, written: Tensor) -> Tensor:
        """What the decoder knows at each step: the word written before and its own place. (B, T) -> (B, T, d)."""
        return self.target_words[written] + self.target_places[: written.shape[1]]

    def forward(self, written: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, words) and weights (B, h, T, S); x is added back as in a decoder layer."""
        x = self.queries(written)
        read, weights = self.cross(x, *self.cross.keys_and_values(memory))
        return (x + read) @ self.read, weights


def gold_places(source_len: int) -> Tensor:
    """The source place of each target word: every second one, from the last to the first. (T,)."""
    return torch.arange(source_len - 1, 0, -2)


def draw_sentences(n: int, source_len: int, dictionary: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Source (n, S), what the decoder is given (n, T): the target shifted right by one, and the target (n, T)."""
    source = torch.randint(WORDS, (n, source_len), generator=rng)
    target = dictionary[source[:, gold_places(source_len)]]
    return source, torch.cat([torch.full((n, 1), START), target[:, :-1]], dim=1), target


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    S, dictionary = params.source_len, torch.randperm(WORDS, generator=rng)  # word of the source -> its translation
    model = Translator(params, rng)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=2e-2, total_steps=params.steps)
    for step in range(1, params.steps + 1):
        source, written, target = draw_sentences(BATCH, S, dictionary, rng)
        loss = nn.functional.cross_entropy(model(written, model.encode(source))[0].transpose(1, 2), target)
        descend(adam, loss)
        rate.step()
        if step % 10 == 0:
            tick(step / params.steps, f"step {step}", loss=loss.item())

    model.double()  # so that a difference is not mistaken for rounding, nor rounding for a difference
    source, written, target = draw_sentences(TESTED, S, dictionary, dice)
    shuffle = torch.randperm(S, generator=dice) if params.shuffle_source else torch.arange(S)
    gold = shuffle.argsort()[gold_places(S)]  # (T,): where the word of each step stands now
    with torch.no_grad():
        memory = model.encode(source)[:, shuffle]  # (B, S, d)
        logits, weights = model(written, memory)
        right = (logits.argmax(dim=2) == target).float().mean().item()
        blind = (model(written, torch.zeros_like(memory))[0].argmax(dim=2) == target).float().mean().item()
        mean = weights.mean(dim=1)  # (B, T, S): over heads
        aligned = (mean.argmax(dim=2) == gold).float().mean().item()
        keys, values = model.cross.keys_and_values(memory)  # once a sentence
        x = model.queries(written)
        stepwise = torch.cat([model.cross(x[:, [t]], keys, values)[0] for t in range(len(gold))], dim=1)  # (B, T, d)
        cache_gap = (stepwise - model.cross(x, keys, values)[0]).abs().max().item()
        lengths = [5, 8, 13]
        shapes = [
            model.cross(x, *model.cross.keys_and_values(memory.new_zeros(TESTED, n, WIDTH)))[0].shape for n in lengths
        ]
    off = max(abs(shape[1] - len(gold)) + abs(shape[2] - WIDTH) for shape in shapes)
    onto = [weights[:, :, t, place].mean(dim=0).numpy().tolist() for t, place in enumerate(gold)]  # (T, h)
    T, steps = len(gold), [f"step {t + 1}" for t in range(len(gold))]
    columns = [f"place {place + 1}" for place in shuffle]
    return Result(
        metrics=[
            Metric("alignment-accuracy", aligned),
            Metric("translated right", right),
            Metric("translated right with the source zeroed", blind),
        ],
        claims=[
            Claim("The output is as long as the queries, not as the source: difference over 3 sources", off, "==", 0),
            Claim("The strongest source place is the right one: share of decoder steps", aligned, ">=", 0.9),
            Claim("The word read there is translated right: share of words", right, ">=", 0.9),
            Claim("With the source zeroed the decoder guesses: share of words right", blind, "<=", 0.1),
            Claim("K and V of the source, made once, serve every step: largest difference", cache_gap, "<=", 1e-6),
        ],
        figures=[
            Heatmap(
                "Alignment, mean over heads and sentences", x="source vector, named by its place in the sentence",
                y="decoder step", values=mean.mean(dim=0).numpy().tolist(), row_labels=steps, column_labels=columns,
            ),
            Bars(
                "Weight on the right source place", x="decoder step", y="mean weight", labels=steps,
                series={f"head {i}": [row[i] for row in onto] for i in range(params.heads)},
            ),
        ],
        tables=[
            Table(
                "One sentence", ["decoder step", "given", "strongest place", "source word there", "written", "right"],
                [
                    [t + 1, "start" if t == 0 else f"t{written[0, t]}", f"place {shuffle[at] + 1}",
                     f"s{source[0, shuffle[at]]}", f"t{logits[0, t].argmax()}", f"t{target[0, t]}"]
                    for t, at in enumerate(mean[0].argmax(dim=1))
                ],
            ),
            Table(
                "Shapes", ["what", "made of", "shape"],
                [
                    ["queries", "decoder", f"({T}, {WIDTH})"],
                    ["keys, values", "encoder", f"({S}, {WIDTH}) each"],
                    ["weights of one head", "both", f"({T}, {S})"],
                    ["output", "both", f"({T}, {WIDTH})"],
                ],
            ),
        ],
    )  # fmt: skip
