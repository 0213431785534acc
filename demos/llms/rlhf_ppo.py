"""RLHF: PPO against a reward model with a KL leash

Question: How does a policy get better by a reward model without drifting into nonsense?
Source: Ouyang et al. 2022 (InstructGPT), arXiv:2203.02155, §3; Schulman et al. 2017 (PPO), arXiv:1707.06347, eq. (7),
  (9); advantages: Schulman et al. 2015, arXiv:1506.02438, eq. (16); KL penalty for each word: Ziegler et al. 2019,
  arXiv:1909.08593, §2.
Watch: imitation repeats what people write, rude words included; the reward of preferences takes them out. Cut the leash
  (β 0, preset): the learned reward rises further, and what people feel falls: the policy has found the judge's errors.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.answers import GREETINGS, LENGTH, RUDE, TOPICAL, WORDS, draw_answers, hidden_score, spell
from demos.shared.transformer import Transformer, descend, start, train

WIDTH, HEADS, LAYERS = 32, 2, 1
BEGIN = len(WORDS)  # the mark before the first word
IMITATION, JUDGING, RATE = 150, 250, 5e-3  # training steps of the first two stages
EPOCHS, PPO_RATE, LAMBDA = 4, 3e-3, 0.95  # passes over each batch of answers; λ of the advantages (γ = 1)
RUDENESS = 0.2  # share of the words in people's answers that are rude on top of the others
TESTED, CLEAR = 1000, 1.0  # answers in each measurement; difference of hidden scores that counts as clear


class Params(DemoParams):
    beta: float = Field(0.1, ge=0.0, le=1.0, description="β, the weight of the KL penalty: the leash")
    clip: float = Field(0.2, ge=0.05, le=0.5, description="How far a probability ratio may gain by one batch")
    iterations: int = Field(20, ge=1, le=100, description="Batches of answers that PPO learns from")
    batch: int = Field(128, ge=32, le=512, description="Answers in each batch")
    pairs: int = Field(2000, ge=200, le=10_000, description="Labelled pairs for the reward model")
    seed: int = Field(0, ge=0, le=9999, description="Seed of answers, labels, weights and sampling")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no leash": Preset(
            "β 0: the drift grows, and the hidden score falls while the learned one rises", {"beta": 0.0}
        ),
        "short leash": Preset("β 1: the policy hardly leaves what people write", {"beta": 1.0}),
        "few labels": Preset("A reward model of 200 pairs is followed where it is wrong", {"pairs": 200}),
    }


class Policy(nn.Module):
    """A causal transformer that writes answers, with a second output: how good the answer will turn out."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words = Transformer(len(WORDS) + 1, LENGTH, WIDTH, LAYERS, HEADS, rng, causal=True)
        self.value = nn.Linear(WIDTH, 1)
        start(self.value, rng)

    def forward(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """answers (B, 8) -> log-probabilities of every next word (B, 8, V), and values before it (B, 8)."""
        begun = torch.cat([torch.full((len(answers), 1), BEGIN), answers[:, :-1]], dim=1)
        hidden = self.words.hidden(begun)  # (B, 8, d)
        logits = hidden @ self.words.words.weight[:BEGIN].T  # the mark itself is never written
        return logits.log_softmax(dim=2), self.value(hidden)[:, :, 0]

    @torch.no_grad()
    def write(self, n: int, rng: torch.Generator) -> Tensor:
        """n answers drawn word by word, (n, 8)."""
        answers = torch.zeros(n, LENGTH, dtype=torch.long)
        for place in range(LENGTH):
            odds = self(answers)[0][:, place].exp()  # what stands behind the place is not seen
            answers[:, place] = torch.multinomial(odds, 1, generator=rng)[:, 0]
        return answers


class RewardModel(nn.Module):
    """A transformer that reads the whole answer, and one number."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words = Transformer(len(WORDS), LENGTH, WIDTH, LAYERS, HEADS, rng, causal=False)
        self.head = nn.Linear(WIDTH, 1)
        start(self.head, rng)

    def forward(self, answers: Tensor) -> Tensor:
        """answers (B, 8) -> rewards (B,)."""
        return self.head(self.words.hidden(answers).mean(dim=1))[:, 0]


def taken(log_odds: Tensor, answers: Tensor) -> Tensor:
    """Log-probability of each word that was written: (B, 8, V), (B, 8) -> (B, 8)."""
    return log_odds.gather(2, answers[:, :, None])[:, :, 0]


def advantages(rewards: Tensor, values: Tensor) -> Tensor:
    """Generalised advantages (B, T): Σ_l λ^l δ_{t+l} with δ_t = r_t + V_{t+1} − V_t, V = 0 after the end (γ = 1)."""
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], dim=1)
    delta, running = rewards + following - values, torch.zeros(len(values))
    found = list[Tensor]()
    for place in reversed(range(rewards.shape[1])):
        running = delta[:, place] + LAMBDA * running
        found.append(running)
    return torch.stack(found[::-1], dim=1)


def clipped_loss(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Eq. (7) of PPO, as a loss: a ratio beyond 1 ± clip earns nothing more."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


@torch.no_grad()
def drift(policy: Policy, reference: Policy, answers: Tensor) -> float:
    """KL(π ‖ π_ref) of whole answers in nats: the exact KL of each next word, summed along the policy's own answers."""
    log_p, log_q = policy(answers)[0], reference(answers)[0]
    return (log_p.exp() * (log_p - log_q)).sum(dim=(1, 2)).mean().item()


@torch.no_grad()
def measure(policy: Policy, reference: Policy, judge: RewardModel, rng: torch.Generator) -> dict[str, float]:
    """Of new answers: what the judge gives, what people feel, how rude they are, and how far the policy has drifted."""
    answers = policy.write(TESTED, rng)
    rude = len(GREETINGS) + len(TOPICAL)
    return {
        "learned reward": judge(answers).mean().item(),
        "hidden score": hidden_score(answers).mean().item(),
        "rude words": ((answers >= rude) & (answers < rude + len(RUDE))).float().mean().item(),
        "KL in nats": drift(policy, reference, answers),
    }


def improve(
    reference: Policy, judge: RewardModel, beta: float, params: Params, rng: torch.Generator, tick: Tick, part: float
) -> tuple[Policy, list[dict[str, float]], tuple[float, float]]:
    """PPO from the reference on. Also what each iteration measures, and of the first batch, before any update: how far
    a ratio is from 1, and the share that is clipped."""
    policy = copy.deepcopy(reference)
    adam = torch.optim.Adam(policy.parameters(), lr=PPO_RATE, fused=True)
    curves, first = list[dict[str, float]](), (0.0, 0.0)
    for iteration in range(params.iterations):
        answers = policy.write(params.batch, rng)
        with torch.no_grad():
            (log_odds, values), log_reference = policy(answers), reference(answers)[0]
            old, score = taken(log_odds, answers), judge(answers)
            rewards = -beta * (old - taken(log_reference, answers))  # (B, 8): every word pays for its distance
            rewards[:, -1] += score  # the judge speaks when the answer is complete
            gain = advantages(rewards, values)
            returns, gain = gain + values, (gain - gain.mean()) / gain.std()
        curves.append({
            "learned reward": score.mean().item(),
            "hidden score": hidden_score(answers).mean().item(),
            "KL in nats": drift(policy, reference, answers),
        })  # fmt: skip
        for epoch in range(EPOCHS):
            log_odds, guess = policy(answers)
            ratio = (taken(log_odds, answers) - old).exp()
            if iteration == epoch == 0:
                far = (ratio - 1).abs().detach()
                first = far.max().item(), (far > params.clip).float().mean().item()
            loss = clipped_loss(ratio, gain, params.clip) + 0.5 * mse_loss(guess, returns)  # eq. (9), no entropy bonus
            descend(policy.parameters(), adam, loss)
        tick(part + 0.3 * iteration / params.iterations, f"PPO, β {beta:g}", score=curves[-1]["hidden score"])
    return policy, curves, first


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    reference, judge = Policy(rng), RewardModel(rng)

    def imitation() -> Tensor:  # stage 1: the answers that people wrote, word by word
        shown = draw_answers(128, rng)
        rude = torch.rand(shown.shape, generator=rng) < RUDENESS
        shown = torch.where(rude, len(GREETINGS) + len(TOPICAL) + (shown % len(RUDE)), shown)
        return -taken(reference(shown)[0], shown).mean()

    train(
        reference, imitation, IMITATION, RATE, lambda step, loss: tick(0.15 * step / IMITATION, "imitation", loss=loss)
    )

    a, b = (reference.write(params.pairs, rng) for _ in range(2))  # stage 2: two answers, and which one is better
    wins = torch.rand(params.pairs, generator=rng) < torch.sigmoid(hidden_score(a) - hidden_score(b))
    better, worse = torch.where(wins[:, None], a, b), torch.where(wins[:, None], b, a)

    def preference() -> Tensor:
        some = torch.randint(params.pairs, (128,), generator=rng)
        return -logsigmoid(judge(better[some]) - judge(worse[some])).mean()

    train(judge, preference, JUDGING, RATE, lambda step, loss: tick(0.15 + 0.2 * step / JUDGING, "judge", loss=loss))
    with torch.no_grad():
        c, d = reference.write(TESTED, rng), reference.write(TESTED, rng)
        gap, felt = judge(c) - judge(d), hidden_score(c) - hidden_score(d)
        agreement = (gap.sign() == felt.sign())[felt.abs() >= CLEAR].float().mean().item()

    # stage 3, on the leash and without it
    tuned, curves, (far, clipped) = improve(reference, judge, params.beta, params, rng, tick, 0.35)
    loose, _, _ = improve(reference, judge, 0.0, params, rng, tick, 0.65)
    policies = {"imitation": reference, f"PPO, β {params.beta:g}": tuned, "PPO, no leash": loose}
    found = {name: measure(policy, reference, judge, rng) for name, policy in policies.items()}
    before, after, free = found.values()
    examples = [[spell(policy.write(1, rng)[0]) for policy in policies.values()] for _ in range(5)]
    return Result(
        metrics=[
            Metric("hidden score", after["hidden score"]),
            Metric("hidden score of the imitation", before["hidden score"]),
            Metric("rude words", after["rude words"]),
            Metric("KL to the reference", after["KL in nats"], "nats"),
            Metric("reward model agreement", agreement),
        ],
        claims=[
            Claim("People like the answers better: hidden score gained over imitation",
                  after["hidden score"] - before["hidden score"], ">=", 2.0),
            Claim("Rude words go: their share, as a part of imitation's", after["rude words"] / before["rude words"],
                  "<=", 0.5),
            Claim("The leash holds: KL to the imitation in nats", after["KL in nats"], "<=", 12.0),
            Claim("Without it the policy runs: KL without the leash, times that on it",
                  free["KL in nats"] / max(after["KL in nats"], 1e-9), ">=", 1.5),
            Claim("Off the leash the judge is pleased and people are not: hidden score on the leash, less without",
                  after["hidden score"] - free["hidden score"], ">=", 0.07),
            Claim("The reward model knows clear cases: share of pairs ordered as by the hidden score",
                  agreement, ">=", 0.85),
            Claim("The first step is on policy: largest distance of a ratio from 1", far, "<=", 1e-5),
            Claim("So nothing is clipped yet: share of ratios", clipped, "==", 0.0),
        ],
        figures=[
            Lines("On the leash", "iteration", "score, nats", list(range(params.iterations)),
                  {name: [each[name] for each in curves] for name in curves[0]}),
        ],
        tables=[
            Table("Policies", ["policy", *before], [[name, *values.values()] for name, values in found.items()]),
            Table("Answers", list(policies), examples),
        ],
    )  # fmt: skip
