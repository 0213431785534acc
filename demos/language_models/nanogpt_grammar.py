"""A GPT trained from scratch on a grammar.

Question: Does next-word prediction alone teach grammar and facts?
Source: Radford et al. 2018 (GPT), eq. (1); Radford et al. 2019 (GPT-2), §2.3; Brown et al. 2020, arXiv:2005.14165.
Watch: The validation loss falls to the entropy of the source, which no model can beat, and sampled sentences parse.

The text is sentences such as "the old dogs that the cat sees bark ." and facts: "the capital of france is paris ."
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import (
    CAPITAL_BY_COUNTRY,
    CLASSES,
    ID,
    LONGEST,
    WORDS,
    draw_text,
    parses,
    source_entropy,
    spell,
)

WINDOW, BATCH, SAMPLES = 32, 32, 400  # words that the model sees at once, windows a step, sentences for the parser


class Params(DemoParams):
    steps: int = Field(500, ge=50, le=2000, description="Training steps of 32 windows of 32 words")
    d_model: int = Field(64, ge=16, le=128, description="Width: size of the vector of each word")
    layers: int = Field(3, ge=1, le=6, description="Transformer blocks")
    heads: int = Field(4, ge=1, le=8, description="Attention heads in each block; they divide the width")
    prompt: str = Field(
        "the dogs that the cat", max_length=200, description="Text to continue, in words of the grammar"
    )
    temperature: float = Field(0.8, ge=0.1, le=2.0, description="Sampling temperature")
    facts: bool = Field(True, description='Mix 40 fixed facts ("the capital of X is Y") into the text')
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of text, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no facts": Preset("The words are known but no fact was told: recall falls to chance", {"facts": False}),
        "stopped early": Preset("Grammar comes first: sentences parse while facts are unknown", {"steps": 150}),
        "hot": Preset("Unlikely words are drawn too often: sentences stop parsing", {"temperature": 2.0}),
    }

    @field_validator("prompt")
    @classmethod
    def _is_in_known_words(cls, prompt: str) -> str:
        words = prompt.lower().split()
        if unknown := sorted(set(words) - set(ID)):
            raise ValueError(
                f"unknown: {', '.join(unknown)}; the words are {' '.join(WORDS[:28])} and those of the facts"
            )
        return " ".join(words)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Params":
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        return self


class Block(nn.Module):
    """Pre-norm block (GPT-2 §2.3): attention and MLP each add to x what they make of its norm."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(B, T, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, h, T, d/h) each
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # no word sees a later one
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, d))  # (B, T, d)
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))  # (B, T, d)


class GPT(nn.Module):
    """Learned positions, pre-norm blocks, a last norm, and the word embedding once more as output head."""

    def __init__(self, d: int, layers: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(len(WORDS), d), nn.Embedding(WINDOW, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif "norm" not in name:  # GPT-2's 0.02 suits its width; here 500 steps would not teach the facts
                nn.init.normal_(weight, std=d**-0.5, generator=rng)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.positions.weight[: words.shape[1]]  # (B, T, d)
        for block in self.blocks:
            x = block(x)  # (B, T, d)
        return self.norm(x) @ self.words.weight.T  # (B, T, V): logits of the next word


def losses(model: GPT, windows: Tensor) -> Tensor:
    """-log p(word | words before it) for windows (B, T + 1): the terms of GPT's eq. (1), with their sign, (B, T)."""
    logits = model(windows[:, :-1])  # (B, T, V)
    return nn.functional.cross_entropy(logits.transpose(1, 2), windows[:, 1:], reduction="none")  # every word a target


@torch.no_grad()
def held_out_loss(model: GPT, windows: Tensor) -> float:
    """Mean loss of the second halves: there each word has its whole sentence before it (half a window is longer)."""
    return torch.cat([losses(model, part)[:, WINDOW // 2 :] for part in torch.split(windows, 256)]).mean().item()


@torch.no_grad()
def next_word(model: GPT, prompts: Sequence[Sequence[str]], temperature: float = 1.0) -> Tensor:
    """p(next word | prompt) for prompts of one length, each read as text after a full stop: (N, V)."""
    words = torch.tensor([[ID["."], *(ID[word] for word in prompt)] for prompt in prompts])  # (N, T)
    return (model(words[:, -WINDOW:])[:, -1] / temperature).softmax(dim=-1)


@torch.no_grad()
def write(model: GPT, prompt: str, count: int, temperature: float, rng: torch.Generator) -> list[list[str]]:
    """Continue the prompt `count` times; return the sentences in which it ends."""
    given = [".", *prompt.split()]
    words = torch.tensor([[ID[word] for word in given]]).repeat(count, 1)  # (N, T)
    for _ in range(LONGEST):
        p = (model(words[:, -WINDOW:])[:, -1] / temperature).softmax(dim=-1)  # (N, V)
        words = torch.cat(
            [words, torch.multinomial(p, 1, generator=rng)], dim=1
        )  # (N, T + 1): what was written is read
    first = len(given) - given[::-1].index(".")  # of the sentence in which the prompt ends
    return [row[first : [*row, "."].index(".", len(given)) + 1] for row in map(spell, words)]


def agreement(model: GPT, tags: str) -> float:
    """p(verb that agrees) / p(verb) after prompts of these word classes, in both numbers; the subject is tags[1]."""
    shares: list[float] = []
    for classes in tags, tags.translate(str.maketrans("nvNV", "NVnv")):
        p = next_word(model, list(itertools.product(*(CLASSES[tag] for tag in classes)))).mean(dim=0)  # (V,)
        one, many = (sum(p[ID[verb]].item() for tag in verbs for verb in CLASSES[tag]) for verbs in ("vi", "VI"))
        shares.append((one if classes[1] == "n" else many) / (one + many))
    return sum(shares) / 2


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, clipped to norm 1 (Brown et al. 2020, app. B)."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, judge = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    text = draw_text(12_000, params.facts, rng)  # (M,)
    held_out = draw_text(6_000, params.facts, judge).unfold(0, WINDOW + 1, WINDOW // 2)  # (B, T + 1)
    entropy = source_entropy(params.facts)  # nats a word
    model = GPT(params.d_model, params.layers, params.heads, rng)
    adam = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=8e-3, total_steps=params.steps, pct_start=0.2)
    at, training, validation, recent = list[int](), list[float](), list[float](), list[float]()
    for step in range(1, params.steps + 1):
        starts = torch.randint(len(text) - WINDOW, (BATCH, 1), generator=rng)
        loss = losses(model, text[starts + torch.arange(WINDOW + 1)]).mean()
        recent.append(loss.item())
        descend(model, adam, loss)
        rate.step()
        if step % (params.steps // 20) == 0 or step == params.steps:
            at.append(step)
            training.append(sum(recent) / len(recent))
            validation.append(held_out_loss(model, held_out[:128]))
            recent.clear()
            tick(0.95 * step / params.steps, f"step {step}", training=training[-1], validation=validation[-1])

    final = held_out_loss(model, held_out)
    known = set(" ".join(spell(text)).split(" . "))
    sampled = write(model, "", SAMPLES, params.temperature, judge)
    parsed = [sentence for sentence in sampled if parses(sentence)]
    novel = [sentence for sentence in parsed if " ".join(sentence[:-1]) not in known]
    shuffled = spell(text[torch.randint(len(text), (20 * SAMPLES,), generator=judge)])  # words by frequency alone
    salad = [parses([*words.split(), "."]) for words in " ".join(shuffled).split(" . ")]
    clauses = {"none": "tn", "that see the cats": "tnrvtN", "that the cats see": "tnrtNV"}
    agreements = {clause: agreement(model, tags) for clause, tags in clauses.items()}
    across = (agreements["that see the cats"] + agreements["that the cats see"]) / 2
    guesses = spell(next_word(model, [["the", "capital", "of", x, "is"] for x in CAPITAL_BY_COUNTRY]).argmax(dim=-1))
    recalled = sum(guess == city for guess, city in zip(guesses, CAPITAL_BY_COUNTRY.values(), strict=True)) / 40
    likely = next_word(model, [params.prompt.split()], params.temperature)[0].topk(10)
    shown = write(model, params.prompt, 8, params.temperature, judge) + sampled[:8]
    return Result(
        metrics=[
            Metric("validation loss", final, "nats/word"),
            Metric("source entropy", entropy, "nats/word"),
            Metric("grammatical samples", len(parsed) / SAMPLES),
            Metric("agreement accuracy", across),
            Metric("facts recalled", recalled),
            Metric("parameters", sum(weight.numel() for weight in model.parameters())),
        ],
        claims=[
            Claim("Validation loss comes near the source entropy H: (loss - H) / H", final / entropy - 1, "<=", 0.03),
            Claim("No model beats the source: loss - H in nats a word", final - entropy, ">=", -0.02),
            Claim("Sampled sentences that parse", len(parsed) / SAMPLES, ">=", 0.8),
            Claim("The same words drawn by frequency alone parse", sum(salad) / len(salad), "<=", 0.02),
            Claim("Sampled sentences that parse and are not in the training text", len(novel) / SAMPLES, ">=", 0.3),
            Claim("p(verb of the right number) across a clause", across, ">=", 0.9),
            Claim("Facts of the text recalled", recalled, ">=", 0.9),
        ],
        figures=[
            Lines(
                "Next-word loss", x="training step", y="nats a word", at=at,
                series={"training": training, "validation": validation, "source entropy": [entropy] * len(at)},
            ),
            Bars(
                f"After “{params.prompt}”, temperature {params.temperature:g}", x="next word", y="probability",
                labels=spell(likely.indices), series={"GPT": likely.values.numpy().tolist()},
            ),
            Bars(
                "Verb of the subject's number, by what stands between", x="clause", y="probability",
                labels=list(agreements), series={"GPT": list(agreements.values())},
            ),
        ],
        tables=[
            Table(
                "Eight continuations of the prompt, eight free sentences", ["sentence", "parses", "in training text"],
                [[" ".join(words), parses(words), " ".join(words[:-1]) in known] for words in shown],
            )
        ],
    )  # fmt: skip
