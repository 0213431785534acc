"""A character model that writes sentences or code.

Question: Can a model trained only to predict the next character produce text with meaning and programs that run?
Source: Graves 2013, arXiv:1308.0850, §2, eq. (6), and §3; the GRU: Cho et al. 2014, arXiv:1406.1078, eq. (5) to (8).
Watch: Letters become words, then sentences or programs that parse, many of them not in the training text.
    A low temperature repeats itself, a high one breaks words. Without its memory the model knows letter pairs alone.
"""

import ast
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import ID, draw_text, parses, spell

HIDDEN, WINDOW, BATCH, SAMPLES, LONGEST = 64, 40, 32, 200, 60  # LONGEST: characters of a sampled line
LINES = {"text": 400, "code": 4_000}  # of training: a fraction of the few sentences, or new ones would be rare
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABETS = {"text": f"\n .{LETTERS}", "code": "\n abcxyz=+-*();0123456789"}  # "\n" ends a line


class Params(DemoParams):
    corpus: Literal["text", "code"] = Field("text", description="Grammar sentences or small Python assignments")
    temperature: float = Field(0.7, ge=0.1, le=2.0, description="Sampling temperature")
    steps: int = Field(400, ge=50, le=1500, description="Training steps of 32 windows of 64 characters")
    prompt: str = Field("", max_length=60, description="Characters the generation starts from")
    memory: bool = Field(True, description="Carry the hidden state on; without it the model sees one character")
    seed: int = Field(0, ge=0, le=9999, description="Seed of data, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "code": Preset(
            "Nearly every line parses; far fewer run, for a name must be carried across the line", {"corpus": "code"}
        ),
        "no memory": Preset("The last character is all it knows: pairs of letters, no words", {"memory": False}),
        "hot": Preset("Unlikely characters are drawn too often: words break", {"temperature": 1.8}),
        "prompted": Preset("The line is begun, and the verb must agree with its noun", {"prompt": "the old dogs "}),
    }

    @model_validator(mode="after")
    def _prompt_is_in_the_alphabet(self) -> "Params":
        if unknown := sorted(set(self.prompt) - set(ALPHABETS[self.corpus][1:])):
            raise ValueError(f"prompt: {''.join(unknown)!r} is not in {ALPHABETS[self.corpus][1:]!r}")
        return self


class GRU(nn.Module):
    """Characters -> logits of the next. The cell is Cho et al.'s, with r applied after the product as cuDNN has it."""

    def __init__(self, characters: int, memory: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.memory = memory
        self.W = nn.Linear(characters, 3 * HIDDEN)  # of a one-hot character: its columns are the embedding
        self.U = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = nn.Linear(HIDDEN, characters)
        for weight in self.parameters():
            nn.init.uniform_(weight, -(HIDDEN**-0.5), HIDDEN**-0.5, generator=rng)
        self.U.bias.data[HIDDEN : 2 * HIDDEN] += 1.0  # z starts open: what comes must remember what was

    def step(self, Wx: Tensor, h: Tensor) -> Tensor:
        """One step of the cell: Wx (B, 3H) and the state h (B, H) -> the next state (B, H)."""
        r_x, z_x, n_x = Wx.chunk(3, dim=1)
        r_h, z_h, n_h = self.U(h).chunk(3, dim=1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()  # reset and update gates, eq. (5), (6)
        n = (n_x + r * n_h).tanh()  # the candidate, eq. (8)
        return z * h + (1 - z) * n  # eq. (7)

    def forward(self, characters: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """characters (B, T) int64 -> logits (B, T, V) and the last state (B, H)."""
        Wx = self.W.weight.T[characters] + self.W.bias  # (B, T, 3H)
        h = Wx.new_zeros(len(characters), HIDDEN) if h is None else h
        states: list[Tensor] = []
        for t in range(characters.shape[1]):
            h = self.step(Wx[:, t], h if self.memory else torch.zeros_like(h))
            states.append(h)
        return self.out(torch.stack(states, dim=1)), h


def draw_lines(corpus: str, n: int, rng: torch.Generator) -> list[str]:
    """n lines: sentences of the shared grammar without a clause, or programs such as "a = 7 * (3 - 2); x = a + 5"."""
    if corpus == "text":
        sentences = " ".join(spell(draw_text(4 * n, False, rng))).removesuffix(" .").split(" . ")
        return [sentence for sentence in sentences if " that " not in sentence][:n]
    pick = torch.randint(1 << 30, (n, 11), generator=rng).numpy().tolist()

    def program(d: list[int]) -> str:
        name, other = "abc"[d[0] % 3], "xyz"[d[1] % 3]
        o, p, q = ("+-*"[digit % 3] for digit in d[2:5])
        i, j, k = (str(digit % 10) for digit in d[5:8])
        first = f"{i} {o} ({j} {p} {k})" if d[8] % 2 else f"{i} {o} {j}"
        second = f"{name} {q} {name}" if d[9] % 3 == 0 else f"{name} {q} {d[10] % 10}"
        return f"{name} = {first}; {other} = {second}"

    return [program(row) for row in pick]


def is_sentence(line: str) -> bool:
    """Whether a line is one sentence of the grammar."""
    words = line.split(" ")
    return all(word in ID for word in words) and parses([*words, "."])


def is_python(line: str) -> bool:
    """Whether Python's own parser takes the line, and finds something in it."""
    try:
        return bool(ast.parse(line).body)
    except (SyntaxError, ValueError):
        return False


def evaluates(line: str) -> bool:
    """Whether the line runs: only assignments of sums and products, whose names have been assigned before."""
    known: set[str] = set()
    for statement in ast.parse(line).body if is_python(line) else [ast.Pass()]:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                nodes = list(ast.walk(value))
                names = {node.id for node in nodes if isinstance(node, ast.Name)}
                if names - known or any(isinstance(node, ast.Call | ast.Tuple | ast.Starred) for node in nodes):
                    return False
                known.add(target)
            case _:
                return False
    return True


@torch.no_grad()
def write(
    model: GRU, alphabet: str, prompt: str, count: int, temperature: float, rng: torch.Generator
) -> tuple[list[str], float]:
    """Begin `count` lines with the prompt and draw on until each has ended.

    Return them without their ends, and the mean entropy of the laws that their characters were drawn from, in bits.
    """
    text = torch.tensor([[alphabet.index(c) for c in f"\n{prompt}"]]).repeat(count, 1)  # (N, T)
    logits, h = model(text)
    going = torch.ones(count, dtype=torch.bool)
    drawn, entropies = list[Tensor](), list[Tensor]()
    while going.any() and len(drawn) < LONGEST:
        p = (logits[:, -1] / temperature).softmax(dim=1)  # (N, V)
        entropies.append(-torch.xlogy(p, p).sum(dim=1)[going] / math.log(2))
        drawn.append(torch.multinomial(p, 1, generator=rng))  # (N, 1)
        going &= drawn[-1][:, 0] != 0
        logits, h = model(drawn[-1], h)  # what was written is read
    rows = torch.cat(drawn, dim=1).numpy().tolist()
    lines = [(prompt + "".join(alphabet[c] for c in row)).split("\n")[0] for row in rows]
    return lines, torch.cat(entropies).mean().item()


@torch.no_grad()
def bits(model: GRU, text: Tensor) -> float:
    """Mean -log2 p(next character) over the second halves of windows of text (M,), where the line's start is known."""
    windows = text[: len(text) // (2 * WINDOW) * 2 * WINDOW].view(-1, 2 * WINDOW)[:100]  # (N, 2 T)
    logits, _ = model(windows[:, :-1])
    nats = nn.functional.cross_entropy(logits[:, WINDOW:].flatten(0, 1), windows[:, WINDOW + 1 :].flatten())
    return nats.item() / math.log(2)


def gap_to_torch(model: GRU, characters: Tensor) -> float:
    """Largest difference of the states' logits to those of torch.nn.GRU with copied weights."""
    theirs = nn.GRU(model.W.in_features, HIDDEN, batch_first=True)
    copies = (model.W.weight, model.U.weight, model.W.bias, model.U.bias)
    for weight, ours in zip(theirs.parameters(), copies, strict=True):
        weight.data.copy_(ours.data)
    states: Tensor = theirs(nn.functional.one_hot(characters, model.W.in_features).float())[0]
    return (model(characters)[0] - model.out(states)).abs().max().item()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient, its norm clipped to 1 as recurrent networks need it."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def share(judge: Callable[[str], bool], lines: list[str]) -> float:
    """Share of lines that a judge accepts."""
    return sum(map(judge, lines)) / len(lines)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, dice = (torch.Generator().manual_seed(2 * params.seed + odd) for odd in (0, 1))  # training; evaluation
    alphabet = ALPHABETS[params.corpus]
    told, kept_back = (draw_lines(params.corpus, LINES[params.corpus], dealt) for dealt in (rng, dice))
    text, held_out = (
        torch.tensor([alphabet.index(c) for c in "\n".join(lines)]) for lines in (told, kept_back)
    )  # (M,) each
    model = GRU(len(alphabet), params.memory, rng)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=2e-2, total_steps=params.steps)
    at, training, validation, recent = list[int](), list[float](), list[float](), list[float]()
    for step in range(1, params.steps + 1):
        starts = torch.randint(len(text) - WINDOW, (BATCH, 1), generator=rng)
        windows = text[starts + torch.arange(WINDOW + 1)]  # (B, T + 1)
        logits, _ = model(windows[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())  # nats a character
        recent.append(loss.item() / math.log(2))
        descend(model, adam, loss)
        rate.step()
        if step % (params.steps // 20) == 0 or step == params.steps:
            at.append(step)
            training.append(sum(recent) / len(recent))
            validation.append(bits(model, held_out[: 20 * 2 * WINDOW]))
            recent.clear()
            tick(0.9 * step / params.steps, f"step {step}", training=training[-1], validation=validation[-1])

    frequency = text.bincount(minlength=len(alphabet)) / len(text)  # (V,)
    unigram = -(frequency[held_out] + 1e-9).log2().mean().item()
    final = bits(model, held_out)
    is_valid = is_sentence if params.corpus == "text" else is_python
    runs = is_sentence if params.corpus == "text" else evaluates
    lines, _ = write(model, alphabet, params.prompt, SAMPLES, params.temperature, dice)
    known = set(told)
    valid = share(is_valid, lines)
    novel = share(lambda line: line not in known, [line for line in lines if is_valid(line)] or [told[0]])
    salad = torch.multinomial(frequency, 40 * SAMPLES, replacement=True, generator=dice).numpy().tolist()
    salad_lines = [line for line in "".join(alphabet[c] for c in salad).split("\n") if line][:SAMPLES]
    valid_salad = share(is_valid, salad_lines)
    by_temperature, entropy = dict[float, list[str]](), dict[float, float]()
    for T in (0.1, 0.5, 1.0, 1.5):
        by_temperature[T], entropy[T] = write(model, alphabet, params.prompt, SAMPLES, T, dice)
    more = entropy[1.5] - entropy[0.1]
    gap = gap_to_torch(model, held_out[: 4 * WINDOW].view(4, WINDOW))
    shown = [(params.temperature, line) for line in lines[:10]]
    shown += [(T, line) for T, some in by_temperature.items() for line in some[:4]]
    return Result(
        metrics=[
            Metric("valid_share", valid),
            Metric("share of lines that run" if params.corpus == "code" else "share that parses", share(runs, lines)),
            Metric("share of valid lines not in the training text", novel),
            Metric("entropy of a drawn character at temperature 1", entropy[1.0], "bits"),
            Metric("held-out cross-entropy", final, "bits/character"),
            Metric("entropy of character frequencies", unigram, "bits/character"),
        ],
        claims=[
            Claim("Held-out bits a character over those by character frequency", final / unigram, "<=", 0.3),
            Claim("Generated lines that the grammar or Python's parser accepts", valid, ">=", 0.85),
            Claim("The same characters drawn by frequency alone are accepted", valid_salad, "<=", 0.2),
            Claim("Valid lines that are not in the training text", novel, ">=", 0.15),
            Claim("More temperature, more entropy: bits a character at 1.5 minus those at 0.1", more, ">=", 0.2),
            Claim("The cell is torch.nn.GRU with copied weights: largest difference of logits", gap, "<=", 1e-4),
        ],
        figures=[
            Lines(
                "Cross-entropy", x="training step", y="bits a character", at=at,
                series={
                    "training": training, "held out": validation, "character frequency": [unigram] * len(at),
                },
            ),
            Bars(
                "Variety against validity", x="temperature", y="share of lines",
                labels=[str(T) for T in by_temperature],
                series={
                    "valid": [share(is_valid, some) for some in by_temperature.values()],
                    "distinct": [len(set(some)) / SAMPLES for some in by_temperature.values()],
                },
            ),
        ],
        tables=[
            Table(
                "Generated lines", ["temperature", "line", "valid", "runs", "in training text"],
                [[T, line, is_valid(line), runs(line), line in known] for T, line in shown],
            )
        ],
    )  # fmt: skip
