"""Two sentences: cross-encoder and sentence embeddings

Question: Do these two sentences mean the same, and how can we compare a million of them?
Source: Devlin et al. 2018, arXiv:1810.04805, §3 (both in one input) and §4.4 (endings scored from [CLS]); Reimers &
  Gurevych 2019, arXiv:1908.10084, §3 (mean of a sentence's vectors, cosine); Zellers et al. 2018, arXiv:1808.05326.
Watch: "dog chasing cat" and "kitten hunting hound" share as many words as a paraphrase does, so counting words is
  guessing. An encoder that reads both together tells them apart, at n(n − 1)/2 passes for all pairs of n sentences; one
  vector for each takes n. Take the positions away (preset): who did what to whom is lost.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, cross_entropy, mse_loss

from demos.contract import Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared import paraphrases as toy
from demos.shared.transformer import Transformer, start, train

COUNTING = {"paraphrase": 0.6, "similarity": 0.8, "continuation": 0.6}  # what counting shared words must not exceed
D, LAYERS, HEADS, BATCH, RATE, TESTED, ENDINGS = 32, 2, 4, 64, 5e-3, 1000, 4
SWAPPED = [toy.OBJECT, toy.VERB, toy.SUBJECT, toy.DEGREE, toy.QUALITY]  # the doer is now the one it is done to


class Params(DemoParams):
    mode: Literal["cross", "bi"] = Field("cross", description="Read both sentences together, or each by itself")
    task: Literal["paraphrase", "similarity", "continuation"] = Field("paraphrase", description="What is asked of both")
    sentences: int = Field(100, ge=10, le=300, description="Sentences of which all pairs are compared")
    positions: bool = Field(True, description="Whether the encoder is told the places of words")
    pretrain_steps: int = Field(300, ge=0, le=1500, description="Steps of filling in hidden words first")
    steps: int = Field(200, ge=50, le=1500, description="Steps of fine-tuning, of 64 pairs")
    seed: int = Field(0, ge=0, le=9999, description="Seed of sentences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "without positions": Preset("Words without places: half of the answers are wrong", {"positions": False}),
        "sentence vectors": Preset("One vector for each, compared by cosine", {"mode": "bi", "task": "similarity"}),
        "from scratch": Preset("Degrees are not learned in so few steps", {"task": "similarity", "pretrain_steps": 0}),
        "ending by cosine": Preset("It cannot tell first from second", {"mode": "bi", "task": "continuation"}),
    }


def draw(task: str, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """First sentences (n, 5), seconds (n, K, 5) and gold (n,).

    Half of the seconds have doer and other in each other's place. Gold is 1 for a paraphrase, a degree: the share of
    slots that mean the same, or the number of the ending whose subject is the first sentence's object.
    """
    said, same = toy.draw_meanings(n, rng), torch.rand(n, 1, generator=rng) < 0.5
    gold, second = same[:, 0].long(), torch.where(same, said, said[:, SWAPPED])[:, None]
    if task == "similarity":
        kept = torch.rand(n, 5, generator=rng) < torch.rand(n, 1, generator=rng)
        second = toy.alter(second[:, 0], ~kept, rng)[:, None]
        gold = (second[:, 0] == said).float().mean(dim=1)
    elif task == "continuation":
        order = torch.rand(n, ENDINGS, generator=rng).argsort(dim=1)
        gold = (order == 0).long().argmax(dim=1)
        second = toy.draw_meanings(n * ENDINGS, rng).view(n, ENDINGS, 5)
        turn = said[:, toy.OBJECT, None] + order - second[..., toy.SUBJECT]  # the subject becomes the object + order
        for slot in (toy.SUBJECT, toy.OBJECT):
            second[..., slot] = (second[..., slot] + turn) % toy.SIZES[slot]
    return toy.say(said, rng), toy.say(second.flatten(0, 1), rng).view(n, -1, 5), gold


def shared_words(a: Tensor, b: Tensor) -> Tensor:
    """How many words of each of b (n, K, 5) stand anywhere in a (n, 5): (n, K)."""
    return (a[:, None, :, None] == b[:, :, None]).any(dim=2).sum(dim=2).float()


class Scorer(nn.Module):
    """One score for two sentences. `passes` counts the inputs that the encoder has read."""

    def __init__(self, mode: str, rng: torch.Generator) -> None:
        super().__init__()
        self.mode, self.passes = mode, 0
        self.encoder = Transformer(len(toy.WORDS), 13, D, LAYERS, HEADS, rng, causal=False)
        self.head = nn.Linear(D if mode == "cross" else 1, 1)
        start(self.head, rng)
        if mode == "bi":
            nn.init.ones_(self.head.weight)  # the score starts as the cosine

    def read(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        return self.encoder.hidden(x)

    def together(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores (n,) of [CLS] a [SEP] b [SEP], sentences (n, 5) both: a linear layer on [CLS]."""
        return self.head(self.read(toy.join(a, b))[:, 0])[:, 0]

    def vectors(self, sentences: Tensor) -> Tensor:
        """One vector for each sentence (n, 5), the mean of its words': (n, D)."""
        return self.read(toy.join(sentences))[:, 1:-1].mean(dim=1)

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (n,) of vectors (n, D): their cosine, times and plus a number."""
        return self.head(cosine_similarity(u, v)[:, None])[:, 0]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores (n, K) of sentences (n, 5) with each of K others (n, K, 5)."""
        first, second = a.repeat_interleave(b.shape[1], dim=0), b.flatten(0, 1)
        if self.mode == "cross":
            return self.together(first, second).view(b.shape[:2])
        return self.compare(self.vectors(first), self.vectors(second)).view(b.shape[:2])

    def all_pairs(self, sentences: Tensor) -> Tensor:
        """Scores (n, n) of sentences (n, 5) with each other, every pair compared once; 0 on the diagonal."""
        i, j = torch.triu_indices(len(sentences), len(sentences), 1)
        if self.mode == "cross":
            scores = self.together(sentences[i], sentences[j])
        else:
            vectors = self.vectors(sentences)  # once for each, however many the pairs
            scores = self.compare(vectors[i], vectors[j])
        table = torch.zeros(len(sentences), len(sentences)).index_put_((i, j), scores)
        return table + table.T


def loss_of(task: str, scores: Tensor, gold: Tensor) -> Tensor:
    """Of scores (n, K): a paraphrase or not; a degree; one of K endings."""
    if task == "paraphrase":
        return binary_cross_entropy_with_logits(scores[:, 0], gold.float())
    return mse_loss(scores[:, 0], gold) if task == "similarity" else cross_entropy(scores, gold)


def spearman(a: Tensor, b: Tensor) -> float:
    """Correlation of the ranks of (n,) and (n,); equal values share the mean of their ranks."""
    ranks = [(x[:, None] > x).sum(dim=1) + 0.5 * (x[:, None] == x).sum(dim=1) for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks).double())[0, 1].item()


def quality(task: str, scores: Tensor, gold: Tensor, threshold: float = 0.0) -> float:
    """Accuracy of scores (n, K), or their rank correlation with degrees. Of equal endings one is drawn."""
    if task == "paraphrase":
        return ((scores[:, 0] > threshold) == (gold == 1)).double().mean().item()
    if task == "similarity":
        return spearman(scores[:, 0], gold)
    best = (scores == scores.max(dim=1, keepdim=True).values).double()
    return (best / best.sum(dim=1, keepdim=True)).gather(1, gold[:, None]).mean().item()


@torch.no_grad()
def count_passes(mode: str, n: int, rng: torch.Generator) -> int:
    """Inputs that the encoder really reads to compare n sentences with each other."""
    model = Scorer(mode, rng)
    model.all_pairs(toy.say(toy.draw_meanings(n, rng), rng))
    return model.passes


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, task, n = torch.Generator().manual_seed(params.seed), params.task, params.sentences
    model = Scorer(params.mode, rng)
    if not params.positions:
        nn.init.zeros_(model.encoder.positions.weight).requires_grad_(False)

    def fill() -> Tensor:  # hidden words of two sentences that say the same
        meanings = toy.draw_meanings(BATCH, rng)
        x = toy.join(toy.say(meanings, rng), toy.say(meanings, rng))
        hidden = (torch.rand(x.shape, generator=rng) < 0.2) & (x > toy.MASK)
        return cross_entropy(model.encoder(torch.where(hidden, toy.MASK, x))[hidden], x[hidden])

    def judge() -> Tensor:
        a, b, gold = draw(task, BATCH, rng)
        return loss_of(task, model(a, b), gold)

    if params.pretrain_steps:
        train(model.encoder, fill, params.pretrain_steps, RATE,
              lambda step, value: tick(step / params.pretrain_steps / 2, "hidden words", loss=value))  # fmt: skip
    train(model, judge, params.steps, RATE, lambda step, value: tick(0.5 + 0.5 * step / params.steps, task, loss=value))
    a, b, gold = draw(task, TESTED, rng)
    shared, rules = shared_words(a, b), [count - 0.5 for count in range(7)] if task == "paraphrase" else [0.0]
    said = toy.draw_meanings(1, rng)
    group = toy.say(torch.cat([said, said[:, SWAPPED]]).repeat_interleave(4, dim=0), rng)  # (8, 5)
    with torch.no_grad():
        scores, table = model(a, b), model.all_pairs(group)
        turned = (model(b[:, 0], a[:, None])[:, 0] - scores[:, 0]).abs().mean().item()
    reached, counted = quality(task, scores, gold), max(quality(task, shared, gold, rule) for rule in rules)
    passes = {mode: count_passes(mode, n, rng) for mode in ("cross", "bi")}
    names = [" ".join(toy.WORDS[int(word)] for word in row) for row in group]
    costs = [[m, m * (m - 1) // 2, m] for m in (1_000, 10_000, 1_000_000)]
    return Result(
        metrics=[
            Metric("quality", reached), Metric("quality of counting shared words", counted),
            Metric("passes for all pairs", passes[params.mode]),
            Metric("change of the score when both sentences change places, mean", turned),
        ],
        claims=[
            Claim("New pairs are judged well: accuracy, or rank correlation with the degrees", reached, ">=", 0.9),
            Claim("Counting shared words is not enough: quality of the best such rule less 0.6, of degrees less 0.8",
                  counted - COUNTING[task], "<=", 0),
            Claim("Reading together takes a pass for each pair: passes counted less n(n − 1)/2",
                  passes["cross"] - n * (n - 1) // 2, "==", 0),
            Claim("Vectors take a pass for each sentence: passes counted less n", passes["bi"] - n, "==", 0),
        ],
        figures=[Heatmap("One meaning in four wordings, then with the roles exchanged: scores",
                         "second sentence", "first sentence", table.numpy().tolist(), names, names)],
        tables=[Table("Passes for all pairs", ["sentences", "cross-encoder", "bi-encoder"],
                      [[n, passes["cross"], passes["bi"]], *costs])],
    )  # fmt: skip
