"""GRPO: reasoning by reinforcement from checkable answers

Question: How far can a weak model climb when only "right or wrong" is rewarded?
Source: Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, §4.1: eq. (3) (the objective), eq. (4) (the KL estimator);
  rewards by rule: DeepSeek-AI 2025 (R1), arXiv:2501.12948, §2.2.
Watch: nobody shows the model a right answer any more. Of eight tries at a sum the right ones are pushed and the wrong
  ones held back, relative to each other, so that no second network has to guess how good a try was. With groups of two
  (preset) most tries are both right or both wrong, and teach nothing.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, descend, train

EQUALS, CHECK, SIGNS = 10, 11, 12  # the digits stand for themselves; "=", and "?" before a second look
SUMS = torch.cartesian_prod(torch.arange(10), torch.arange(10))  # all a + b, (100, 2)
WIDTH, LAYERS, HEADS = 32, 2, 4
LESSONS, SLIPS = 45, 0.5  # steps of the weak teaching; share of wrong first answers in lessons that check
QUESTIONS, CLIP, UPDATES = 32, 0.2, 2  # sums an iteration; limit of a ratio's gain; updates by each batch


class Params(DemoParams):
    group: int = Field(8, ge=2, le=32, description="Answers to each question, which are compared with each other")
    iterations: int = Field(120, ge=10, le=400, description="Batches of 32 questions")
    beta: float = Field(0.02, ge=0.0, le=0.5, description="β, the weight of the KL penalty")
    lr: float = Field(1e-3, ge=1e-5, le=5e-3, description="Learning rate")
    allow_check: bool = Field(False, description="Let the model look at its answer once more and correct it")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, questions and answers")

    presets: ClassVar[Mapping[str, Preset]] = {
        "pairs": Preset("Groups of two: most teach nothing", {"group": 2}),
        "with a check": Preset("A second look, rewarded when the last answer is right", {"allow_check": True}),
        "tight leash": Preset("β 0.5: the policy may not leave the weak one", {"beta": 0.5}),
    }


def lesson(n: int, check: bool, rng: torch.Generator) -> Tensor:
    """Worked sums "a b = tens units", (n, 5); with a check "… ? tens units" follows, and half the first tries slip."""
    asked = SUMS[torch.randint(len(SUMS), (n,), generator=rng)]
    answer = digits_of(asked.sum(dim=1))  # (n, 2)
    start = torch.cat([asked, torch.full((n, 1), EQUALS)], dim=1)
    if not check:
        return torch.cat([start, answer], dim=1)
    slip = torch.rand(n, 1, generator=rng) < SLIPS
    first = torch.where(slip, digits_of(torch.randint(19, (n,), generator=rng)), answer)
    return torch.cat([start, first, torch.full((n, 1), CHECK), answer], dim=1)


def digits_of(total: Tensor) -> Tensor:
    """Tens and units of (n,) numbers, (n, 2)."""
    return torch.stack([total // 10, total % 10], dim=1)


def reward(asked: Tensor, written: Tensor) -> Tensor:
    """1 where the last two signs (n, L) are the sum of asked (n, 2), else 0: no judge, only the rule."""
    return (written[:, -2:] == digits_of(asked.sum(dim=1))).all(dim=1).float()


@torch.no_grad()
def answer(model: Transformer, asked: Tensor, check: bool, greedy: bool, rng: torch.Generator) -> Tensor:
    """Sums with the model's own answers, (n, 5 or 8)."""
    written = torch.cat([asked, torch.full((len(asked), 1), EQUALS)], dim=1)
    for _ in range(5 if check else 2):
        odds = model(written)[:, -1].softmax(dim=1)
        drawn = odds.argmax(dim=1, keepdim=True) if greedy else torch.multinomial(odds, 1, generator=rng)
        written = torch.cat([written, drawn], dim=1)
    return written


def log_odds(model: Transformer, written: Tensor) -> Tensor:
    """Log-probability of each sign of the answers, (n, 2 or 5)."""
    after = model(written[:, :-1]).log_softmax(dim=2)[:, 2:]  # from "=" on
    return after.gather(2, written[:, 3:, None])[:, :, 0]


def advantages(rewards: Tensor) -> Tensor:
    """How much better than its group each answer is: (questions, group), mean 0 and deviation 1 in each row, or 0."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + 1e-6)


def k3(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Eq. (4): q/p − log q/p − 1 of samples from p: never negative, and on average the KL from p to q."""
    ratio = log_q - log_p
    return ratio.exp() - ratio - 1


def objective(log_p: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, beta: float) -> Tensor:
    """Eq. (3) as a loss: the clipped ratio of every sign times its answer's advantage (n,), and the KL penalty."""
    ratio = (log_p - old).exp()
    gain = torch.minimum(ratio * advantage[:, None], ratio.clamp(1 - CLIP, 1 + CLIP) * advantage[:, None])
    return -(gain - beta * k3(log_p, reference)).mean()


@torch.no_grad()
def accuracy(model: Transformer, check: bool, greedy: bool, rng: torch.Generator) -> float:
    """Share of right answers to all 100 sums, ten tries each unless greedy."""
    asked = SUMS if greedy else SUMS.repeat(10, 1)
    return reward(asked, answer(model, asked, check, greedy, rng)).mean().item()


@torch.no_grad()
def exact_divergence(model: Transformer, reference: Transformer) -> tuple[float, float]:
    """KL of the answers without a check, by all 100 endings of each sum; and the mean of k3 under the same odds."""
    asked, endings = SUMS.repeat_interleave(100, dim=0), digits_of(torch.arange(100)).repeat(100, 1)
    written = torch.cat([asked, torch.full((len(asked), 1), EQUALS), endings], dim=1)
    log_p, log_q = (log_odds(each, written) for each in (model, reference))
    odds = log_p.sum(dim=1).exp()
    exact = (odds * (log_p - log_q).sum(dim=1)).sum() / len(SUMS)
    return exact.item(), ((odds[:, None] * k3(log_p, log_q)).sum() / len(SUMS)).item()


def improve(
    reference: Transformer, group: int, params: Params, rng: torch.Generator, tick: Tick, part: float
) -> tuple[Transformer, list[float], list[float]]:
    """GRPO from the weak model on: the model, the mean reward, and the share of groups that teach, by iteration."""
    model, check = copy.deepcopy(reference), params.allow_check
    adam = torch.optim.AdamW(model.parameters(), lr=params.lr, weight_decay=0.0, fused=True)
    rewards_seen, teaching = list[float](), list[float]()
    for iteration in range(params.iterations):
        questions = SUMS[torch.randint(len(SUMS), (QUESTIONS,), generator=rng)].repeat_interleave(group, dim=0)
        written = answer(model, questions, check, False, rng)
        rewards = reward(questions, written).view(QUESTIONS, group)
        advantage = advantages(rewards).flatten()
        with torch.no_grad():
            old, anchor = log_odds(model, written), log_odds(reference, written)
        for _ in range(UPDATES):
            loss = objective(log_odds(model, written), old, anchor, advantage, params.beta)
            descend(model.parameters(), adam, loss)
        rewards_seen.append(rewards.mean().item())
        teaching.append((rewards.std(dim=1) > 0).float().mean().item())
        if iteration % 10 == 0:
            tick(part + 0.4 * iteration / params.iterations, f"groups of {group}", reward=rewards_seen[-1])
    return model, rewards_seen, teaching


def spell(written: Tensor) -> str:
    """A sum and its answer as text: "7 + 5 = 12", or with a second look."""
    signs: list[int] = written.numpy().tolist()
    a, b, _, tens, units, *more = signs
    second = f" ? {more[-2]}{more[-1]}" if more else ""
    return f"{a} + {b} = {tens}{units}{second}"


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng, check = torch.Generator().manual_seed(params.seed), params.allow_check
    weak = Transformer(SIGNS, 8, WIDTH, LAYERS, HEADS, rng, causal=True)

    def teaching_loss() -> Tensor:
        shown = lesson(64, check, rng)
        logits = weak(shown[:, :-1])
        return cross_entropy(logits[:, 2:].transpose(1, 2), shown[:, 3:])  # the answers, not the questions

    train(
        weak, teaching_loss, LESSONS, 5e-3, lambda step, loss: tick(0.15 * step / LESSONS, "weak teaching", loss=loss)
    )
    strong, rewards, teaching = improve(weak, params.group, params, rng, tick, 0.15)
    paired, _, few = improve(weak, 2, params, rng, tick, 0.55)
    models = {"weakly taught": weak, f"groups of {params.group}": strong, "groups of two": paired}
    sampled = {name: accuracy(model, check, False, rng) for name, model in models.items()}
    greedy = {name: accuracy(model, check, True, rng) for name, model in models.items()}
    before, after, pairs = sampled.values()
    drawn = advantages((torch.rand(200, params.group, generator=rng) < 0.5).float())
    even = advantages(torch.ones(1, params.group)).abs().max().item()
    exact, estimated = exact_divergence(strong, weak)
    some = torch.randint(len(SUMS), (8,), generator=rng)
    transcripts = [
        [spell(answer(model, SUMS[some], check, False, rng)[row]) for model in models.values()] for row in range(8)
    ]
    return Result(
        metrics=[
            Metric("sampled accuracy", after),
            Metric("sampled accuracy before", before),
            Metric("greedy accuracy", greedy[f"groups of {params.group}"]),
            Metric("KL to the weak model", exact, "nats"),
        ],
        claims=[
            Claim("The start is weak: sampled accuracy on all 100 sums", before, "<=", 0.5),
            Claim("Right or wrong is enough: sampled accuracy afterwards", after, ">=", 0.8),
            Claim("Larger groups teach more: accuracy, less that with groups of two", after - pairs, ">=", 0.1),
            Claim("Advantages compare: largest mean of a group", drawn.mean(dim=1).abs().max().item(), "<=", 1e-5),
            Claim("Where all are right, nothing is learned: largest advantage", even, "<=", 1e-6),
            Claim("k3 is the KL on average: relative distance from the exact one",
                  abs(estimated - exact) / max(exact, 1e-9), "<=", 0.1),
        ],
        figures=[
            Lines("Reward", "iteration", "share", list(range(params.iterations)),
                  {"right answers": rewards, "groups that teach": teaching, "pairs that teach": few}),
            Bars("Accuracy", "", "share", list(models), {
                "sampled": list(sampled.values()), "greedy": list(greedy.values()),
            }),
        ],
        tables=[Table("Answers", list(models), transcripts)],
    )  # fmt: skip
