"""Masking rules: 80/10/10, static, dynamic, spans; with NSP, SOP or neither

Question: Why does BERT sometimes not mask what it predicts, and what did RoBERTa and SpanBERT change?
Source: Devlin et al. 2018, arXiv:1810.04805, §3.1 and appendix A.1 (80/10/10, NSP); Liu et al. 2019 (RoBERTa),
  arXiv:1907.11692, §4 (dynamic masks, larger batches, no NSP); Joshi et al. 2019 (SpanBERT), arXiv:1907.10529, §3.1
  (spans; its boundary objective is not shown); Lan et al. 2019 (ALBERT), arXiv:1909.11942, §3.1 (SOP).
Watch: both arms fill hidden words about as well. But the one that only ever saw [MASK] where a word was asked cannot
  say what stands before its eyes in uncorrupted text, and uncorrupted text is all that a task will ever show it.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Cell, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared import paraphrases as toy
from demos.shared.transformer import Transformer, start, train

CHOSEN = 0.15  # share of the words that the model has to predict
P_STOP, LONGEST = 0.2, 10  # SpanBERT: span lengths are geometric, cut at 10
LENGTHS = torch.arange(1, LONGEST + 1)
LENGTH_ODDS = P_STOP * (1 - P_STOP) ** (LENGTHS - 1.0)
TEXTS, TESTED, COUNTED = 1000, 1000, 40_000  # training texts, met again each epoch; test texts; texts of the count
D, LAYERS, HEADS, RATE, USUAL_BATCH = 32, 2, 4, 5e-3, 64
UNCHOSEN, MASKED, RANDOM, KEPT = range(4)
KINDS = {"masked": MASKED, "random": RANDOM, "kept": KEPT}


class Params(DemoParams):
    strategy: Literal["static", "dynamic", "span"] = Field("dynamic", description="When and where words are chosen")
    p_mask: float = Field(0.8, ge=0.0, le=1.0, description="Share of the chosen words replaced by [MASK]")
    p_random: float = Field(0.1, ge=0.0, le=1.0, description="Share replaced by a random word; the rest is kept")
    sentence_task: Literal["none", "nsp", "sop"] = Field("nsp", description="Second objective, on [CLS]")
    batch_size: int = Field(64, ge=8, le=256, description="Texts a step; with more of them, fewer steps")
    steps: int = Field(250, ge=50, le=1500, description="Steps of 64 texts for each arm")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts, masks and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "always [MASK]": Preset("Nothing but [MASK] is ever asked about: the mismatch",
                                {"p_mask": 1.0, "p_random": 0.0}),
        "static": Preset("The same words are hidden in every epoch", {"strategy": "static"}),
        "spans": Preset("Whole runs of words are hidden", {"strategy": "span"}),
        "RoBERTa": Preset("Dynamic masks, no sentence task, doubled batches",
                          {"sentence_task": "none", "batch_size": 128}),
        "sentence order": Preset("ALBERT's question: are the halves swapped?", {"sentence_task": "sop"}),
    }  # fmt: skip


def write(n: int, task: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts "[CLS] two sentences [SEP] two more [SEP]" (n, 23), and whether the second half follows the first (n,).

    A story keeps its people and qualities, and its verbs come in one order, so both halves can be told. Otherwise
    the second half is another story's (nsp) or the halves are swapped (sop).
    """
    stories = [toy.draw_meanings(n, rng) for _ in range(2)]
    follows = torch.rand(n, generator=rng) < (1.0 if task == "none" else 0.5)
    parts = list[Tensor]()
    for t in range(4):
        story = torch.where(follows[:, None] | (t < 2) | (task == "sop"), stories[0], stories[1]).clone()
        story[:, toy.VERB] = torch.where(follows | (task == "nsp"), torch.tensor(t), torch.tensor((t + 2) % 4))
        parts.append(toy.say(story, rng))
    return toy.join(torch.cat(parts[:2], dim=1), torch.cat(parts[2:], dim=1)), follows.long()


def choose(x: Tensor, strategy: str, rng: torch.Generator) -> Tensor:
    """Which words (N, n) the model has to predict, bool: 15 % of them, one by one or in spans; never [CLS] or [SEP]."""
    if strategy == "span":  # starts are as frequent as makes 15 % of the words lie in some span
        n = x.shape[1]
        mean = (LENGTHS * LENGTH_ODDS).sum() / LENGTH_ODDS.sum()
        places = torch.arange(1 - LONGEST, n)  # spans may begin before the text
        starts = torch.rand(len(x), len(places), generator=rng) < -torch.log(torch.tensor(1 - CHOSEN)) / mean
        lengths = draw_lengths(len(x) * len(places), rng).view(len(x), -1)
        since = torch.arange(n)[:, None] - places  # (n, places)
        chosen = (starts[:, None] & (since >= 0) & (since < lengths[:, None])).any(dim=2)
    else:
        chosen = torch.rand(x.shape, generator=rng) < CHOSEN
    return chosen & (x > toy.SEP)


def draw_lengths(n: int, rng: torch.Generator) -> Tensor:
    """Span lengths (n,): geometric, cut at 10 and renormalised."""
    return LENGTHS[torch.multinomial(LENGTH_ODDS, n, replacement=True, generator=rng)]


def corrupt(x: Tensor, chosen: Tensor, p_mask: float, p_random: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the model reads (N, n), and what was done to each word: UNCHOSEN, MASKED, RANDOM or KEPT."""
    lot = torch.rand(x.shape, generator=rng)
    kind = torch.where(lot < p_mask, MASKED, torch.where(lot < p_mask + p_random, RANDOM, KEPT)) * chosen
    other = torch.randint(toy.HOW + 1, len(toy.WORDS), x.shape, generator=rng)
    return torch.where(kind == MASKED, toy.MASK, torch.where(kind == RANDOM, other, x)), kind


def pretrain(
    p_mask: float, p_random: float, params: Params, report: Callable[[float, float], None]
) -> tuple[Transformer, nn.Linear]:
    """One arm: words chosen by the strategy, corrupted by the shares, predicted together with the sentence task."""
    rng = torch.Generator().manual_seed(params.seed)  # the same texts and weights for both arms
    x, follows = write(TEXTS, params.sentence_task, rng)
    model, head = Transformer(len(toy.WORDS), x.shape[1], D, LAYERS, HEADS, rng, causal=False), nn.Linear(D, 2)
    start(head, rng)
    once = choose(x, "static", rng)
    frozen = corrupt(x, once, p_mask, p_random, rng)[0]  # static: corrupted once, before training

    def loss() -> Tensor:
        some = torch.randint(TEXTS, (params.batch_size,), generator=rng)
        chosen = once[some] if params.strategy == "static" else choose(x[some], params.strategy, rng)
        read = frozen[some] if params.strategy == "static" else corrupt(x[some], chosen, p_mask, p_random, rng)[0]
        vectors = model.hidden(read)
        words = cross_entropy(vectors[chosen] @ model.words.weight.T, x[some][chosen])
        return words if params.sentence_task == "none" else words + cross_entropy(head(vectors[:, 0]), follows[some])

    steps = params.steps * USUAL_BATCH // params.batch_size
    train(nn.ModuleList([model, head]), loss, steps, RATE, lambda step, value: report((step + 1) / steps, value))
    return model, head


@torch.no_grad()
def examine(model: Transformer, head: nn.Linear, task: str, rng: torch.Generator) -> list[float]:
    """On new texts: share of hidden words filled, of words named in uncorrupted text, of halves judged right."""
    x, follows = write(TESTED, task, rng)
    chosen = choose(x, "dynamic", rng)
    filled = (model(torch.where(chosen, toy.MASK, x)).argmax(dim=2) == x)[chosen]
    named = (model(x).argmax(dim=2) == x)[x > toy.SEP]
    judged = head(model.hidden(x)[:, 0]).argmax(dim=1) == follows
    return [share.float().mean().item() for share in (filled, named, judged)]


def spell(words: Tensor) -> str:
    """Words (n,) as text."""
    numbers: list[int] = words.numpy().tolist()
    return " ".join(toy.WORDS[number] for number in numbers)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed + 10_000)
    arms = {"this run": (params.p_mask, params.p_random), "always [MASK]": (1.0, 0.0)}
    scores = dict[str, list[float]]()
    for number, (arm, shares) in enumerate(arms.items()):
        model, head = pretrain(
            *shares,
            params,
            lambda done, loss: tick((number + done) / 2, arm, loss=loss),  # noqa: B023
        )
        test = torch.Generator().manual_seed(params.seed + 20_000)  # the same test for both
        scores[arm] = examine(model, head, params.sentence_task, test)

    x, _ = write(COUNTED, params.sentence_task, rng)
    epochs = [choose(x, params.strategy, rng)]
    epochs.append(epochs[0] if params.strategy == "static" else choose(x, params.strategy, rng))
    chosen = epochs[0]
    read, kind = corrupt(x, chosen, params.p_mask, params.p_random, rng)
    overlap = epochs[1][chosen].float().mean().item()
    share = chosen.sum().item() / (x > toy.SEP).sum().item()
    counts = [int((kind == number).sum()) for number in KINDS.values()]
    p_random = min(params.p_random, 1 - params.p_mask)
    asked = [params.p_mask, p_random, 1 - params.p_mask - p_random]
    far = max(abs(count / sum(counts) - p) for count, p in zip(counts, asked, strict=True))
    lengths = draw_lengths(20_000, rng)
    examples = list[list[Cell]]()
    first, was, now = kind[:, 1:6], x[:, 1:6], read[:, 1:6]  # the first sentence of each text
    for name, number in KINDS.items():
        alone = ((first > 0).sum(dim=1) == 1) & ((first == number) & ((was != now) | (number == KEPT))).any(dim=1)
        for row in alone.nonzero()[:3, 0]:
            asked_for = was[row][first[row] == number]
            examples.append([name, counts[number - 1], spell(was[row]), spell(now[row]), spell(asked_for)])
    fill, name, _ = scores["this run"]
    _, name_always, _ = scores["always [MASK]"]
    return Result(
        metrics=[
            Metric("hidden words filled", fill),
            Metric("words of uncorrupted text named", name),
            Metric("the same after always [MASK]", name_always),
            Metric("overlap of two epochs' masks", overlap),
            Metric("mean span length", lengths.float().mean().item(), "words"),
            Metric("steps of each arm", params.steps * USUAL_BATCH // params.batch_size),
        ],
        claims=[
            Claim("15 % of the words are chosen: distance of the share", abs(share - CHOSEN), "<=", 0.005),
            Claim("Chosen words are masked, replaced and kept as asked: largest distance of a share", far, "<=", 0.01),
            Claim("[CLS] and [SEP] are never chosen: number", chosen[x <= toy.SEP].sum().item(), "==", 0),
            Claim("Who saw only [MASK] asked cannot read: uncorrupted words named, less those after always [MASK]",
                  name - name_always, ">=", 0.12),
            Claim("Every epoch hides other words: share of chosen words that the next epoch chooses again",
                  overlap, "<=", 0.3),
            Claim("Spans have the lengths of SpanBERT: distance of their mean from 3.80",
                  abs(lengths.float().mean().item() - 3.8), "<=", 0.1),
        ],
        figures=[
            Bars("Two arms on new texts", "", "share", ["hidden words filled", "uncorrupted words named"],
                 {arm: values[:2] for arm, values in scores.items()}),
            Lines("Span lengths", "words", "share", LENGTHS.numpy().tolist(), {
                "drawn": (lengths.bincount(minlength=LONGEST + 1)[1:] / len(lengths)).numpy().tolist(),
                "geometric, cut at 10": (LENGTH_ODDS / LENGTH_ODDS.sum()).numpy().tolist(),
            }),
        ],
        tables=[
            Table("Corruption", ["kind", f"of {sum(counts)}", "text", "read", "asked for"], examples),
            Table("Arms", ["chosen words become", "hidden words filled", "uncorrupted words named", "halves judged"], [
                [f"{arm}: {p_mask:g} [MASK], {p_random:g} random", *scores[arm][:2],
                 "no such task" if params.sentence_task == "none" else scores[arm][2]]
                for arm, (p_mask, p_random) in arms.items()
            ]),
        ],
    )  # fmt: skip
