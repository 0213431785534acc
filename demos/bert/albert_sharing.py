"""ALBERT: shared layers, factorised embeddings, sentence order

Question: How can an encoder lose 89 % of its parameters and still work?
Source: Lan et al. 2019, arXiv:1909.11942, §3.1 (E ≪ H, one layer used at every depth, sentence order), tables 4 and 5.
Watch: three layers that are one module have the weights of one, and judge sentence order about as well as three
  different ones. Order is the harder question: word counts give a sentence of another topic away, but not which of
  two came first. Sharing attention or feed-forward alone shows where most of the weights are.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, one_hot

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start, train

PEOPLE, VERBS = ["ann", "ben", "cleo"], ["gives", "sends", "sells", "shows"]
TOPICS = [topic.split() for topic in (
    "bread flour cake dough yeast butter", "boat anchor sail rope oar net", "book pen paper ink map letter",
    "flute drum horn violin harp bell", "hammer nail saw drill plank screw", "ball bat goal whistle medal racket",
)]  # fmt: skip
CLS, SEP, MASK, TO = range(4)
WORDS = ["[CLS]", "[SEP]", "[MASK]", "to", *PEOPLE, *VERBS, *(thing for topic in TOPICS for thing in topic)]
ID = {word: number for number, word in enumerate(WORDS)}
V, LENGTH, H, HEADS = len(WORDS), 13, 64, 4
A, B = slice(1, 6), slice(7, 12)  # where the sentences of a pair stand
TESTED, PROBED, BATCH, RATE, MASKED = 1000, 1500, 32, 3e-3, 0.15
Share = Literal["none", "attention", "ffn", "all"]
SHARES: list[Share] = ["none", "attention", "ffn", "all"]


class Params(DemoParams):
    share: Share = Field("all", description="What all layers have in common")
    embed_dim: int = Field(16, ge=4, le=64, description="Width E of a word's own vector")
    layers: int = Field(3, ge=1, le=12, description="Layers")
    steps: int = Field(250, ge=50, le=1000, description="Steps of 32 pairs, for each of the two models")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts, masks and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "nothing shared": Preset("Three different layers: the parameters are back, and little else", {"share": "none"}),
        "attention alone": Preset("Most weights stand in the feed-forward parts", {"share": "attention"}),
        "wide words": Preset("E = H, as in BERT: the table of words is not factorised", {"embed_dim": 64}),
    }


def draw_pairs(n: int, task: str, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs "[CLS] ann gives cake to ben [SEP] ben sends flour to cleo [SEP]" (n, 13), words to hide, and truths (n,).

    Who received something passes something of the same topic on. In the other half of the pairs the sentences are
    swapped (task "order"), or the second is about things of another topic (task "topic").
    """

    def some(count: int) -> Tensor:
        return torch.randint(count, (n,), generator=rng)

    def say(giver: Tensor, topic: Tensor, receiver: Tensor) -> Tensor:
        thing = ID[TOPICS[0][0]] + len(TOPICS[0]) * topic + some(len(TOPICS[0]))
        return torch.stack([giver, ID[VERBS[0]] + some(len(VERBS)), thing, 0 * topic + TO, receiver], dim=1)

    true, topic = torch.rand(n, generator=rng) < 0.5, some(len(TOPICS))
    x, y, z = (torch.rand(n, len(PEOPLE), generator=rng).argsort(dim=1) + ID[PEOPLE[0]]).T
    other = (topic + 1 + some(len(TOPICS) - 1)) % len(TOPICS)
    first, second = say(x, topic, y), say(y, torch.where(true | (task == "order"), topic, other), z)
    as_told = true[:, None] | (task == "topic")
    first, second = torch.where(as_told, first, second), torch.where(as_told, second, first)
    words = torch.full((n, LENGTH), SEP)
    words[:, 0], words[:, A], words[:, B] = CLS, first, second
    hidden = (torch.rand(n, LENGTH, generator=rng) < MASKED) & (words > MASK)
    return words, hidden, true.long()


class Encoder(nn.Module):
    """Embeddings of width E, a projection to H, layers of which parts may be one and the same module, and a pooler."""

    def __init__(self, vocabulary: int, places: int, e: int, h: int, layers: int, share: Share) -> None:
        super().__init__()
        self.words, self.places, self.segments = (nn.Embedding(rows, e) for rows in (vocabulary, places, 2))
        self.norm = nn.LayerNorm(e)
        self.widen = nn.Identity() if e == h else nn.Linear(e, h)  # BERT has E = H
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(h, HEADS, 4 * h, 0.0, "gelu", batch_first=True) for _ in range(layers)
        )
        first, *others = self.layers
        for layer in others:
            if share in ("attention", "all"):
                layer.self_attn, layer.norm1 = first.self_attn, first.norm1
            if share in ("ffn", "all"):
                layer.linear1, layer.linear2, layer.norm2 = first.linear1, first.linear2, first.norm2
        self.pooler = nn.Linear(h, h)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, T, H) of words (n, T), and those of [CLS], pooled (n, H)."""
        segments = ((words == SEP).cumsum(dim=1) - (words == SEP).long()).clamp(max=1)  # 1 after the first [SEP]
        x = self.words(words) + self.places.weight[: words.shape[1]] + self.segments(segments)
        x = self.widen(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return x, torch.tanh(self.pooler(x[:, 0]))


class Albert(nn.Module):
    """The encoder with the heads of pre-training: hidden words, scored by their own E-wide vectors, and order."""

    def __init__(self, params: Params, share: Share, rng: torch.Generator) -> None:
        super().__init__()
        self.encoder = Encoder(V, LENGTH, params.embed_dim, H, params.layers, share)
        self.narrow, self.norm = nn.Linear(H, params.embed_dim), nn.LayerNorm(params.embed_dim)
        self.order = nn.Linear(H, 2)
        start(self, rng)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the word at each place (n, T, V), and of false and true pair (n, 2)."""
        x, pooled = self.encoder(words)
        return self.norm(gelu(self.narrow(x))) @ self.encoder.words.weight.T, self.order(pooled)

    def loss(self, words: Tensor, hidden: Tensor, true: Tensor) -> Tensor:
        """Cross-entropy of the words hidden (n, T) and of the sentence task (n,), added."""
        filled, order = self(words.masked_fill(hidden, MASK))
        return cross_entropy(filled[hidden], words[hidden]) + cross_entropy(order, true)


def pretrain(params: Params, share: Share, tick: Tick, begin: float) -> Albert:
    rng = torch.Generator().manual_seed(params.seed)
    model = Albert(params, share, torch.Generator().manual_seed(params.seed + 1))

    def loss() -> Tensor:
        return model.loss(*draw_pairs(BATCH, "order", rng))

    def report(step: int, value: float) -> None:
        tick(begin + step / params.steps / 2, f"layers share: {share}", loss=value)

    train(model, loss, params.steps, RATE, report)
    return model


@torch.no_grad()
def examine(model: Albert, rng: torch.Generator) -> list[float]:
    """On unseen pairs: share of hidden words filled in, and of pairs whose order is judged right."""
    words, hidden, true = draw_pairs(TESTED, "order", rng)
    filled = (model(words.masked_fill(hidden, MASK))[0].argmax(dim=2) == words)[hidden]
    return [hits.float().mean().item() for hits in (filled, model(words)[1].argmax(dim=1) == true)]


def probe(task: str, rng: torch.Generator) -> float:
    """Share of unseen pairs told by word counts: a linear classifier on each product of a count in A and one in B."""
    words, _, true = draw_pairs(PROBED + TESTED, task, rng)
    a, b = (one_hot(words[:, part], V).sum(dim=1).double() for part in (A, B))  # (n, V) each
    rarity = -(a + b > 0).double().mean(dim=0).clamp(min=1e-6).log()  # (V,), "to" counts nothing
    a, b = a * rarity, b * rarity
    gram = ((a @ a[:PROBED].T) * (b @ b[:PROBED].T)).numpy()  # (n, PROBED): ⟨a ⊗ b, a′ ⊗ b′⟩ = ⟨a, a′⟩⟨b, b′⟩
    label = 2 * true.numpy() - 1
    weights = np.linalg.solve(gram[:PROBED] + np.eye(PROBED), label[:PROBED])  # ridge regression
    return float(((gram[PROBED:] @ weights > 0) == (label[PROBED:] > 0)).mean())


def unrolled_gap(model: Albert, params: Params, rng: torch.Generator) -> float:
    """Largest difference between a weight's gradient and the sum over its copies in a model that shares nothing."""
    copies = Albert(params, "none", rng)
    copies.load_state_dict(model.state_dict())  # it names a shared weight once for each use
    batch = draw_pairs(BATCH, "order", rng)
    weights, uses = list(model.parameters()), dict(model.named_parameters(remove_duplicate=False))
    rest = dict(zip(weights, torch.autograd.grad(model.loss(*batch), weights), strict=True))
    grads = torch.autograd.grad(copies.loss(*batch), [copies.get_parameter(name) for name in uses])
    for weight, grad in zip(uses.values(), grads, strict=True):
        rest[weight] = rest[weight] - grad
    return max(difference.abs().max().item() for difference in rest.values())


def count(module: nn.Module) -> int:
    """Weights of a module; one that several places share counts once."""
    return sum(weight.numel() for weight in module.parameters())


def run(params: Params, tick: Tick = no_tick) -> Result:
    model, twin = pretrain(params, params.share, tick, 0.0), pretrain(params, "none", tick, 0.5)
    models = {f"shared: {params.share}": model, "nothing shared": twin}
    rng = torch.Generator().manual_seed(params.seed + 10_000)
    (filled, order), (twin_filled, twin_order) = examine(model, rng), examine(twin, rng)
    topic_told, order_told = probe("topic", rng), probe("order", rng)
    encoder, gap = model.encoder, unrolled_gap(model, params, rng)
    table = (count(encoder.words) + count(encoder.widen)) / (V * H)
    with torch.device("meta"):  # counted, never allocated
        one_layer = Encoder(V, LENGTH, params.embed_dim, H, 1, params.share)
        bert = count(Encoder(30_522, 512, 768, 768, 12, "none"))
        base = {share: count(Encoder(30_000, 512, 128, 768, 12, share)) for share in SHARES}
    saved, deeper = 1 - base[params.share] / bert, count(encoder) - count(one_layer)
    return Result(
        metrics=[
            Metric("order accuracy", order),
            Metric("order accuracy, nothing shared", twin_order),
            Metric("masked words filled", filled),
            Metric("masked words filled, nothing shared", twin_filled),
            Metric("parameters at ALBERT-base's size", base[params.share] / 1e6, "million"),
            Metric("parameters of BERT-base", bert / 1e6, "million"),
        ],
        claims=[
            Claim("89 % are gone: share of BERT-base's parameters saved, with E = 128", saved, ">=", 0.89),
            Claim("Depth is free: parameters of all layers, less those of one", deeper, "==", 0),
            Claim("All uses of a weight add to its gradient: largest difference from their sum", gap, "<=", 1e-5),
            Claim("Short vectors and a projection: weights of the words, over V·H", table, "<=", 0.75),
            Claim("It still works: share of unseen pairs whose order it tells", order, ">=", 0.85),
            Claim("Unshared layers hardly do better: difference of that share", twin_order - order, "<=", 0.1),
            Claim("Word counts give another topic away: share of pairs told", topic_told, ">=", 0.9),
            Claim("They say nothing of order: share of pairs told", order_told, "<=", 0.55),
        ],
        figures=[
            Bars("Parameters with E = 128 and BERT-base's H and layers", "layers share", "millions",
                 [*SHARES, "BERT-base"], {"parameters": [n / 1e6 for n in (*base.values(), bert)]}),
            Bars("Pairs told", "", "share",
                 ["topic, word counts", "order, word counts", *(f"order, {name}" for name in models)],
                 {"unseen pairs": [topic_told, order_told, order, twin_order]}),
        ],
        tables=[
            Table("Parameters", ["part", *models],
                  [[name, *(count(one.encoder.get_submodule(name)) for one in models.values())]
                   for name, _ in encoder.named_children()] + [["all", *(count(m.encoder) for m in models.values())]]),
        ],
    )  # fmt: skip
