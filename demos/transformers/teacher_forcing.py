"""Cross-entropy training, teacher forcing and exposure bias

Question: Why train on gold prefixes, and what does it cost at generation time?
Source: Williams and Zipser 1989, doi:10.1162/neco.1989.1.2.270 (teacher forcing); Bengio et al. 2015, arXiv:1506.03099
  (scheduled sampling); Ranzato et al. 2015, arXiv:1511.06732 (exposure bias, a loss on whole sequences).
Watch: given right prefixes every step teaches from the first batch on, and all steps at once. But then one wrong state,
  of the model's own making, spoils all that follow: accuracy p a step becomes about pᵗ after t steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, train

STATES, SYMBOLS, SHORTEST, LONGEST = 16, 4, 6, 8  # a machine: each symbol moves it from state to state
BEGIN, END, PAD, VOCABULARY = STATES + SYMBOLS, STATES + SYMBOLS + 1, STATES + SYMBOLS + 2, STATES + SYMBOLS + 3
D, BATCH, TESTED, RATE = 64, 32, 200, 5e-3
Mode = Literal["teacher", "scheduled", "free"]


class Params(DemoParams):
    mode: Mode = Field("teacher", description="What feeds the next step: gold, a mixture, or the model's own")
    sample_rate: float = Field(0.25, ge=0.0, le=1.0, description="Share of own predictions in scheduled mode")
    sequence_weight: float = Field(0.0, ge=0.0, le=1.0, description="Weight of the loss on whole sequences")
    steps: int = Field(150, ge=50, le=1500, description="Training steps of each mode")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the machine, its runs and the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "free running": Preset("Trained as it is used: hardly a gap, but little learned", {"mode": "free"}),
        "scheduled": Preset("A quarter of the inputs are its own: slower, the gap stays", {"mode": "scheduled"}),
        "sequence loss": Preset("A reward for whole sequences beside the loss on tokens", {"sequence_weight": 0.3}),
    }


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of the machine: symbols it reads (N, LONGEST), and its states, then END, then PAD (N, LONGEST + 1)."""

    symbols: Tensor
    gold: Tensor


def draw_runs(n: int, machine: Tensor, rng: torch.Generator) -> Runs:
    """Runs of 6 to 8 random symbols. machine (SYMBOLS, STATES): the next state; each row is a permutation."""
    symbols = torch.randint(SYMBOLS, (n, LONGEST), generator=rng)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (n, 1), generator=rng)
    state, states = torch.zeros(n, dtype=torch.long), list[Tensor]()
    for symbol in symbols.T:
        state = machine[symbol, state]
        states.append(state)
    place = torch.arange(LONGEST + 1)
    gold = torch.stack([*states, state], dim=1).where(place < lengths, torch.where(place == lengths, END, PAD))
    return Runs((STATES + symbols).where(place[:-1] < lengths, PAD), gold)


def logits(model: Transformer, runs: Runs, written: Tensor) -> Tensor:
    """Logits (N, t + 1, V) of the next token after each of the prefixes of written (N, t); one pass for all."""
    begin = torch.full((len(written), 1), BEGIN)
    return model(torch.cat([runs.symbols, begin, written], dim=1))[:, LONGEST:]


def token_loss(scores: Tensor, gold: Tensor) -> Tensor:
    """Mean −log p of the gold tokens (N, T) by logits (N, T, V), padding left out."""
    log_p = scores.log_softmax(dim=-1).gather(2, gold[:, :, None])[:, :, 0]
    return -log_p[gold != PAD].mean()


@torch.no_grad()
def own_inputs(model: Transformer, runs: Runs, share: float, rng: torch.Generator) -> Tensor:
    """What is fed after BEGIN, (N, T − 1): gold tokens, of which a share gives way to what the model would write.

    The model's own tokens depend on those before them, so they come one pass after the other.
    """
    fed = runs.gold[:, :-1].clone()
    own = torch.rand(fed.shape, generator=rng) < share
    for t in range(fed.shape[1]):
        written = logits(model, runs, fed[:, :t])[:, -1].argmax(dim=1)
        fed[:, t] = torch.where(own[:, t], written, fed[:, t])
    return fed


def sequence_loss(model: Transformer, runs: Runs, rng: torch.Generator) -> Tensor:
    """REINFORCE: −(reward − mean reward) · log p of a sampled sequence; the reward is 1 if all of it is right."""
    written = runs.gold[:, :0]
    with torch.no_grad():
        for _ in range(runs.gold.shape[1]):
            p = logits(model, runs, written)[:, -1].softmax(dim=1)
            written = torch.cat([written, torch.multinomial(p, 1, generator=rng)], dim=1)
    counted = runs.gold != PAD
    reward = ((written == runs.gold) | ~counted).all(dim=1).float()
    log_p = logits(model, runs, written[:, :-1]).log_softmax(dim=2).gather(2, written[:, :, None])[:, :, 0]
    return -((reward - reward.mean()) * (log_p * counted).sum(dim=1)).mean()


@dataclass(frozen=True, slots=True)
class Check:
    """How a model does on new runs after some steps: tokens right by place (T,), and whole sequences right."""

    step: int
    forced: Tensor  # after gold prefixes
    free: Tensor  # after its own
    exact: float
    token: float  # all places together, after gold prefixes
    own: float  # and after its own

    @property
    def gap(self) -> float:
        """What is lost by reading its own words."""
        return self.token - self.own


@torch.no_grad()
def check(model: Transformer, runs: Runs, step: int) -> Check:
    """Measure a model with either kind of prefix; its own are written greedily."""
    counted = runs.gold != PAD
    inputs = runs.gold[:, :-1], own_inputs(model, runs, 1.0, torch.Generator())
    forced, free = ((logits(model, runs, fed).argmax(dim=2) == runs.gold) & counted for fed in inputs)
    places, tokens = counted.sum(dim=0), counted.sum()
    exact = (free.sum(dim=1) == counted.sum(dim=1)).float().mean()
    return Check(step, forced.sum(dim=0) / places, free.sum(dim=0) / places, exact.item(),
                 (forced.sum() / tokens).item(), (free.sum() / tokens).item())  # fmt: skip


def begin(rng: torch.Generator) -> tuple[Transformer, Runs, Tensor]:
    """An untrained decoder, runs to test it on, and the machine: for each symbol a permutation of the states."""
    machine = torch.stack([torch.randperm(STATES, generator=rng) for _ in range(SYMBOLS)])
    test, model = draw_runs(TESTED, machine, rng), Transformer(VOCABULARY, 2 * LONGEST + 1, D, 1, 4, rng, causal=True)
    with torch.no_grad():  # word vectors are also the output's weights: halved, the first guess is nearly uniform
        model.words.weight.mul_(0.5)
        model.positions.weight.mul_(0.5)
    return model, test, machine


def learn(mode: Mode, weight: float, params: Params, tick: Tick, done: float) -> tuple[list[float], list[Check]]:
    """Train a decoder, every mode from the same start: its loss on tokens at each step, and checks along the way."""
    rng = torch.Generator().manual_seed(params.seed)
    model, test, machine = begin(rng)
    share = {"teacher": 0.0, "scheduled": params.sample_rate, "free": 1.0}[mode]
    losses, checks = list[float](), list[Check]()

    def loss() -> Tensor:
        runs = draw_runs(BATCH, machine, rng)
        fed = own_inputs(model, runs, share, rng) if share else runs.gold[:, :-1]
        on_tokens = token_loss(logits(model, runs, fed), runs.gold)
        losses.append(on_tokens.item())
        return (1 - weight) * on_tokens + weight * sequence_loss(model, runs, rng) if weight else on_tokens

    def report(step: int, _loss: float) -> None:
        if step % 15 == 14 or step + 1 == params.steps:
            checks.append(check(model, test, step + 1))
            tick(done + step / params.steps / 4, f"{mode}, step {step + 1}", loss=losses[-1])

    train(model, loss, params.steps, RATE, report)
    return losses, checks


def steps_to(losses: Sequence[float], bound: float) -> int:
    """The first step whose loss is at most this; the number of steps if none is."""
    return next((step for step, loss in enumerate(losses) if loss <= bound), len(losses))


def run(params: Params, tick: Tick = no_tick) -> Result:
    modes: list[Mode] = ["teacher", "scheduled", "free"]
    learned = {mode: learn(mode, 0.0, params, tick, number / 4) for number, mode in enumerate(modes)}
    chosen: str = params.mode
    if params.sequence_weight:
        chosen = f"{params.mode}, sequence weight {params.sequence_weight:g}"
        learned[chosen] = learn(params.mode, params.sequence_weight, params, tick, 0.75)
    losses = {name: values for name, (values, _) in learned.items()}
    checks = learned[chosen][1]
    widest, last = max(checks, key=lambda one: one.gap), checks[-1]

    model, test, _ = begin(torch.Generator().manual_seed(params.seed))
    with torch.no_grad():
        at_once = token_loss(logits(model, test, test.gold[:, :-1]), test.gold)
        one_by_one = token_loss(
            torch.stack([logits(model, test, test.gold[:, :t])[:, -1] for t in range(LONGEST + 1)], dim=1), test.gold
        )
    half = {mode: steps_to(losses[mode], losses[mode][0] / 2) for mode in modes}
    return Result(
        metrics=[
            Metric("token accuracy after gold prefixes", last.token),
            Metric("token accuracy after its own", last.own),
            Metric("exact match", last.exact, "of sequences"),
            Metric("widest gap", widest.gap),
            Metric("steps to half the initial loss, teacher", half["teacher"]),
            Metric("steps to half the initial loss, free", half["free"]),
        ],
        claims=[
            Claim("An untrained model knows nothing: initial loss over ln V, less 1",
                  abs(at_once.item() / math.log(VOCABULARY) - 1), "<=", 0.1),
            Claim("One pass over gold prefixes is the likelihood, as step by step: difference in nats",
                  abs(at_once.item() - one_by_one.item()), "<=", 1e-5),
            Claim("Its own words mislead it: widest gap in token accuracy to gold prefixes", widest.gap, ">=", 0.1),
            Claim("Teacher forcing is faster: steps to half the initial loss, over those of free running",
                  half["teacher"] / half["free"], "<=", 0.7),
        ],
        figures=[
            Lines("Loss on tokens, as each mode is fed", x="step", y="nats", at=list(range(params.steps)),
                  series=losses),
            Lines(f"On new runs while training ({chosen})", x="step", y="share right", at=[one.step for one in checks],
                  series={"tokens, gold prefixes": [one.token for one in checks],
                          "tokens, its own": [one.own for one in checks],
                          "whole sequences": [one.exact for one in checks]}),
            Lines(f"One wrong state spoils the rest (step {widest.step})", x="place in the sequence", y="share right",
                  at=list(range(1, LONGEST + 2)), series={"gold prefixes": widest.forced.numpy().tolist(),
                                                          "its own": widest.free.numpy().tolist()}),
        ],
        tables=[
            Table("Tokens and sequences", ["trained with", "step", "tokens, gold prefixes", "its own", "exact match"],
                  [[name, one.step, one.token, one.own, one.exact] for name, (_, measured) in learned.items()
                   for one in (measured[len(measured) // 2 - 1], measured[-1])]),
        ],
    )  # fmt: skip
