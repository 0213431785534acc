"""Multi-token prediction and self-speculative decoding

Question: What does a model gain by predicting the token after next?
Source: DeepSeek-AI 2024 (V3), arXiv:2412.19437, §2.2, eqs. (21)–(25); Leviathan et al. 2023, arXiv:2211.17192
  (verification that changes nothing); Gloeckle et al. 2024, arXiv:2404.19737 (parallel heads instead of a chain).
Watch: a small module guesses the token after next, and the main model checks the guess while it predicts: one pass,
  often two tokens, and exactly the text that it would have written alone. Trained with weight 0 (preset) the module
  guesses badly, and nothing is gained; the text is still the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import WORDS, draw_text, source_entropy, spell
from demos.shared.transformer import Block, Transformer, start, train

SENTENCES, LENGTH, BATCH, RATE = 4000, 32, 16, 4e-3  # to learn from; words of a text
D, LAYERS, HEADS = 64, 2, 4
PROMPTS, PROMPT, WRITTEN = 24, 8, 16  # texts that are continued, and words given and written


class Params(DemoParams):
    depth: int = Field(1, ge=1, le=3, description="Modules, each of which looks one token further")
    lam: float = Field(0.3, ge=0.0, le=1.0, description="Weight λ of the modules' loss")
    steps: int = Field(300, ge=50, le=1500, description="Training steps of 16 texts")
    speculate: bool = Field(True, description="Let the modules draft; off: the main model writes alone")
    seed: int = Field(0, ge=0, le=9999, description="Seed of text and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "weight 0": Preset("The modules are not trained, and their drafts are refused", {"lam": 0.0}),
        "without drafts": Preset("One token for each pass: the modules are left out", {"speculate": False}),
        "three deep": Preset("Three drafts for each pass, each less sure than the one before", {"depth": 3}),
    }


class Module(nn.Module):
    """Module k, eqs. (21)–(23): joins what is known at place i with token i + k, and predicts token i + k + 1."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.norm_hidden, self.norm_token = nn.RMSNorm(D), nn.RMSNorm(D)
        self.project = nn.Linear(2 * D, D, bias=False)  # M_k
        self.block, self.norm = Block(D, HEADS), nn.RMSNorm(D)
        start(self, rng)
        for norm in (self.norm_hidden, self.norm_token, self.norm):
            nn.init.ones_(norm.weight)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Vectors (B, n, D) of module k − 1 and of the tokens k further, (B, n, D) -> vectors (B, n, D) of module k."""
        n = hidden.shape[1]
        joined = self.project(torch.cat([self.norm_hidden(hidden), self.norm_token(tokens)], dim=2))
        return self.norm(self.block(joined, torch.ones(n, n, dtype=torch.bool).tril()))


class Model(nn.Module):
    """The main model and its modules. All read and write through the main model's one table of words."""

    def __init__(self, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.main = Transformer(len(WORDS), LENGTH + 4, D, LAYERS, HEADS, rng, causal=True)
        self.extra = nn.ModuleList(Module(rng) for _ in range(depth))

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.main.words.weight.T

    def forward(self, words: Tensor) -> list[Tensor]:
        """Logits of words (B, n): the main model's (B, n, V), then those of module k (B, n − k, V).

        At place i the main model predicts word i + 1, and module k word i + k + 1.
        """
        hidden = self.main.hidden(words)
        logits = [self.head(hidden)]
        for k, module in enumerate(self.extra, start=1):
            hidden = module(hidden[:, : words.shape[1] - k], self.main.words(words[:, k:]))
            logits.append(self.head(hidden))
        return logits


def losses(model: Model, words: Tensor) -> list[Tensor]:
    """Cross-entropy of the main model and of each module, eq. (24), on words (B, n)."""
    return [
        cross_entropy(logits[:, :-1].flatten(0, 1), words[:, k + 1 :].flatten())
        for k, logits in enumerate(model(words))
    ]


@dataclass(frozen=True)
class Text:
    """What was written after a prompt, by how many passes of the main model, and how each drafted token fared."""

    words: list[int]
    passes: int
    accepted: list[list[bool]]  # for each pass that had drafts, up to the first that was refused


@torch.no_grad()
def write_alone(model: Model, prompt: Tensor, count: int) -> Text:
    """`count` words after a prompt (n,), each the likeliest to the main model: one pass a word."""
    words = prompt.numpy().tolist()
    for _ in range(count):
        words.append(int(model.head(model.main.hidden(torch.tensor([words])))[0, -1].argmax()))
    return Text(words[len(prompt) :], count, [])


@torch.no_grad()
def draft(model: Model, words: Sequence[int], hidden: Tensor) -> list[int]:
    """A guess of each module, one place further each, after words of which the last has not been read yet.

    hidden (1, n, D) are the main model's vectors of all words but the last.
    """
    known = list(words)
    for k, module in enumerate(model.extra, start=1):
        tokens = model.main.words(torch.tensor([known[k:]]))  # (1, n, D): those k places further
        hidden = module(hidden, tokens)
        known.append(int(model.head(hidden)[0, -1].argmax()))
    return known[len(words) :]


@torch.no_grad()
def write_with_drafts(model: Model, prompt: Tensor, count: int) -> Text:
    """The same words by fewer passes: a pass reads the drafts too, and its own predictions tell which of them hold."""
    words: list[int] = prompt.numpy().tolist()
    drafts, accepted, passes = list[int](), list[list[bool]](), 0
    while len(words) < len(prompt) + count:
        hidden = model.main.hidden(torch.tensor([words + drafts]))
        said: list[int] = model.head(hidden)[0].argmax(dim=1).numpy().tolist()  # the word after each
        passes += 1
        fate = list[bool]()
        for guess in drafts:
            fate.append(guess == said[len(words) - 1])
            if not fate[-1]:
                break
            words.append(guess)
        accepted += [fate] if drafts else []
        words.append(said[len(words) - 1])  # right whatever became of the drafts
        drafts = draft(model, words, hidden[:, : len(words) - 1])
    return Text(words[len(prompt) : len(prompt) + count], passes, accepted)


@torch.no_grad()
def looks_ahead(model: Model, words: Tensor) -> tuple[float, float]:
    """Largest change at place i of module k when word i + k + 1 is another, and least change when word i + k is."""
    too_far, within = list[float](), list[float]()
    place = LENGTH // 2
    before = model(words)
    for k, logits in enumerate(before):
        for step, changes in ((k + 1, too_far), (k, within)):
            other = words.clone()
            other[:, place + step] = (words[:, place + step] + 1) % len(WORDS)
            changes.append((model(other)[k] - logits)[:, place].abs().max().item())
    return max(too_far), min(within)


@torch.no_grad()
def sampled_difference(model: Model, words: Tensor) -> float:
    """Total variation between the main model's p and what verified sampling says, largest over places of words (B, n).

    A drafted word x ~ q is kept with probability min(1, p/q), else one is drawn from max(0, p − q), scaled to sum 1.
    """
    main, drafted = (logits.softmax(dim=2) for logits in model(words)[:2])
    p, q = main[:, 1:], drafted  # both for word i + 2
    kept = torch.minimum(p, q)
    rest = (p - q).clamp(min=0)
    said = kept + (1 - kept.sum(dim=2, keepdim=True)) * rest / rest.sum(dim=2, keepdim=True).clamp(min=1e-12)
    return ((said - p).abs().sum(dim=2) / 2).max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    text, model = draw_text(SENTENCES, True, rng), Model(params.depth, rng)
    curves: list[list[float]] = [[] for _ in range(params.depth + 1)]

    def loss() -> Tensor:
        places = torch.randint(len(text) - LENGTH, (BATCH, 1), generator=rng) + torch.arange(LENGTH)
        parts = losses(model, text[places])
        for curve, part in zip(curves, parts, strict=True):
            curve.append(part.item())
        return parts[0] + params.lam / params.depth * torch.stack(parts[1:]).sum()  # eq. (25)

    train(model, loss, params.steps, RATE, lambda step, value: tick(0.9 * step / params.steps, "training", loss=value))
    tests = draw_text(400, True, rng)
    prompts = tests[: PROMPTS * PROMPT].view(PROMPTS, PROMPT)
    alone = [write_alone(model, prompt, WRITTEN) for prompt in prompts]
    write = write_with_drafts if params.speculate else write_alone
    written = [write(model, prompt, WRITTEN) for prompt in prompts]
    tick(1.0, "written")
    pairs = [
        pair for one, other in zip(alone, written, strict=True) for pair in zip(one.words, other.words, strict=True)
    ]
    wrong = sum(one != other for one, other in pairs)
    fates = [fate for each in written for fate in each.accepted]
    share = [  # of the k-th drafts that were looked at
        sum(fate[k] for fate in fates if len(fate) > k) / max(1, sum(len(fate) > k for fate in fates))
        for k in range(params.depth)
    ]
    per_pass = PROMPTS * WRITTEN / sum(each.passes for each in written)
    words = tests[: 8 * LENGTH].view(8, LENGTH)
    too_far, within = looks_ahead(model, words)
    with torch.no_grad():
        bare = model.head(model.main.hidden(words))  # as it serves without modules
        discarded = (model(words)[0] - bare).abs().max().item()
        last = [part.item() for part in losses(model, words)]
    own = [sum(weight.numel() for weight in module.parameters()) for module in model.extra]
    shared = model.main.words.weight.numel()
    names = ["main model", *(f"module {k}" for k in range(1, params.depth + 1))]
    return Result(
        metrics=[
            Metric("accepted drafts", share[0] if params.speculate else 0.0),
            Metric("tokens per pass", per_pass),
            Metric("main loss", last[0], "nats"),
            Metric("loss of module 1", last[1], "nats"),
            Metric("entropy of the source", source_entropy(facts=True), "nats"),
        ],
        claims=[
            Claim("Drafts hold: share of the first module's that the main model confirms", share[0], ">=", 0.5),
            Claim("So a pass writes more than a token: tokens for each", per_pass, ">=", 1.4),
            Claim("And the text is the same: words that differ from writing alone", wrong, "<=", 0),
            Claim("Drawn words too keep their odds: largest total variation",
                  sampled_difference(model, words), "<=", 1e-5),
            Claim("Module k at place i reads no further than i + k: largest change by the next word",
                  too_far, "<=", 0.0),
            Claim("But up to there: least change by word i + k", within, ">=", 1e-3),
            Claim("Leaving the modules out changes nothing: largest difference of the main logits",
                  discarded, "<=", 0.0),
        ],
        figures=[
            Lines("Loss", "step", "nats", list(range(1, params.steps + 1)), dict(zip(names, curves, strict=True))),
        ],
        tables=[
            Table("Speculation", ["draft", "confirmed"],
                  [[name, each] for name, each in zip(names[1:], share, strict=True)]),
            Table("Modules", ["", "own weights", "shared with the main model"],
                  [[name, each, shared] for name, each in zip(names[1:], own, strict=True)]),
            Table("A text", ["prompt", "written", "passes"],
                  [[" ".join(spell(prompt)), " ".join(spell(torch.tensor(each.words))), each.passes]
                   for prompt, each in zip(prompts[:3], written, strict=False)]),
        ],
    )  # fmt: skip
