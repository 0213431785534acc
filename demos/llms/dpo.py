"""Direct preference optimisation: RLHF without a reward model

Question: How can preferences train a policy directly?
Source: Rafailov et al. 2023, arXiv:2305.18290, eq. (4) (the optimum of RLHF), eq. (5) (the reward that a policy stands
  for), eq. (7) (the loss); preferences after Bradley and Terry 1952.
Watch: no reward is learned, yet the policy orders answers as people do and scores better: it is its own reward model.
  β is the leash: at 1 (preset) the policy moves half a nat, at 0.1 three times as far for a little more. Preferences
  that are coin flips (preset) teach it nothing.
"""

import copy
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron
from demos.shared.transformer import train

FEATURES, ANSWERS, HIDDEN = 6, 10, 32  # numbers that describe a prompt; answers to choose from; hidden units
SPREAD = 1.5  # standard deviation of the true scores of a prompt's answers
BATCH, RATE, TESTED = 256, 5e-3, 2000
TOY_REWARD, TOY_REFERENCE = torch.tensor([1.0, 0.0, -0.5]).double(), torch.tensor([0.2, 0.5, 0.3]).double()


class Params(DemoParams):
    beta: float = Field(0.1, ge=0.001, le=1.0, description="β, the strength of the leash to the reference policy")
    pairs: int = Field(2000, ge=200, le=10_000, description="Pairs of answers of which one was preferred")
    flipped: float = Field(0.0, ge=0.0, le=0.5, description="Share of the preferences that are reversed; ½ is chance")
    steps: int = Field(250, ge=50, le=1000, description="Training steps of 256 pairs")
    seed: int = Field(0, ge=0, le=9999, description="Seed of prompts, scores, preferences and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "coin flips": Preset(
            "Preferences by chance: nothing to learn, and the policy moves all the same", {"flipped": 0.5}
        ),
        "short leash": Preset("β 1: less gained, at a third of the drift", {"beta": 1.0}),
        "few preferences": Preset("A tenth of the pairs: the policy learns their noise", {"pairs": 200}),
    }


def true_scores(prompts: Tensor, taste: nn.Sequential) -> Tensor:
    """What people feel about every answer, unknown to the policy: (N, d) -> (N, answers), mean 0 for each prompt."""
    with torch.no_grad():
        scores = taste(prompts)
    return SPREAD * (scores - scores.mean(dim=1, keepdim=True)) / scores.std(dim=1, keepdim=True)


def prefer(scores: Tensor, reference: Tensor, flipped: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two answers drawn from the reference policy for each prompt, the preferred one first: (N,) each.

    Bradley and Terry: p(first before second) = σ(score of the first − score of the second); some are reversed.
    """
    drawn = torch.multinomial(reference, 2, replacement=False, generator=rng)  # (N, 2)
    gap = scores.gather(1, drawn) @ torch.tensor([1.0, -1.0])
    swap = torch.rand(len(gap), generator=rng) > torch.sigmoid(gap)
    swap ^= torch.rand(len(gap), generator=rng) < flipped
    drawn = torch.where(swap[:, None], drawn.flip(1), drawn)
    return drawn[:, 0], drawn[:, 1]


def implicit_reward(log_policy: Tensor, log_reference: Tensor, beta: float) -> Tensor:
    """Eq. (5) without the part that all answers of a prompt share: β log π(y|x) / π_ref(y|x), (N, answers)."""
    return beta * (log_policy - log_reference)


def dpo_loss(reward: Tensor, won: Tensor, lost: Tensor) -> Tensor:
    """Eq. (7): −log σ(reward of the preferred − reward of the other), (N,)."""
    return -logsigmoid(reward.gather(1, won[:, None]) - reward.gather(1, lost[:, None]))[:, 0]


def optimum(log_reference: Tensor, reward: Tensor, beta: float) -> Tensor:
    """Eq. (4): the policy π_ref exp(r / β) / Z that RLHF would find, as logarithms (N, answers)."""
    return (log_reference + reward / beta).log_softmax(dim=1)


def divergence(log_policy: Tensor, log_reference: Tensor) -> float:
    """Mean KL(π ‖ π_ref) over prompts, in nats."""
    return (log_policy.exp() * (log_policy - log_reference)).sum(dim=1).mean().item()


def toy_optimum(beta: float) -> float:
    """Largest difference between eq. (4) and what the loss itself leads to, on three answers and all preferences."""
    log_reference = TOY_REFERENCE.log()[None]
    won, lost = (each.flatten() for each in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    odds = TOY_REFERENCE[won] * TOY_REFERENCE[lost] * torch.sigmoid(TOY_REWARD[won] - TOY_REWARD[lost])
    logits = nn.Parameter(log_reference.clone())
    newton = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        newton.zero_grad()
        reward = implicit_reward(logits.log_softmax(dim=1), log_reference, beta).expand(len(won), 3)
        value = (odds * dpo_loss(reward, won, lost)).sum()
        torch.autograd.backward(value)
        return value

    newton.step(loss)  # pyright: ignore[reportUnknownMemberType] (torch leaves it untyped)
    return (logits.softmax(dim=1) - optimum(log_reference, TOY_REWARD[None], beta).exp()).abs().max().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    taste, reference, reward_model = (
        perceptron([FEATURES, HIDDEN, ANSWERS], nn.Tanh, rng) for _ in range(3)
    )  # what people feel; the policy before; a reward model, which only the comparison uses
    policy = copy.deepcopy(reference)
    prompts, tests = torch.randn(params.pairs, FEATURES, generator=rng), torch.randn(TESTED, FEATURES, generator=rng)
    with torch.no_grad():
        log_reference, log_reference_test = (reference(x).log_softmax(dim=1) for x in (prompts, tests))
    won, lost = prefer(true_scores(prompts, taste), log_reference.exp(), params.flipped, rng)
    scores = true_scores(tests, taste)
    won_test, lost_test = prefer(scores, log_reference_test.exp(), 0.0, rng)

    def rewards(some: Tensor) -> Tensor:
        return implicit_reward(policy(prompts[some]).log_softmax(dim=1), log_reference[some], params.beta)

    chosen, rejected = list[float](), list[float]()
    at = list(range(0, params.steps, max(1, params.steps // 50)))

    @torch.no_grad()
    def watch(step: int, loss: float) -> None:
        if step in at:
            reward = implicit_reward(policy(tests).log_softmax(dim=1), log_reference_test, params.beta)
            for curve, answers in ((chosen, won_test), (rejected, lost_test)):
                curve.append(reward.gather(1, answers[:, None]).mean().item())
            tick(0.6 * step / params.steps, "policy", loss=loss)

    def policy_loss() -> Tensor:
        some = torch.randint(params.pairs, (BATCH,), generator=rng)
        return dpo_loss(rewards(some), won[some], lost[some]).mean()

    def model_loss() -> Tensor:
        some = torch.randint(params.pairs, (BATCH,), generator=rng)
        return dpo_loss(reward_model(prompts[some]), won[some], lost[some]).mean()  # the same loss on a free reward

    with torch.no_grad():
        start = dpo_loss(rewards(torch.arange(params.pairs)), won, lost).mean().item()
    train(policy, policy_loss, params.steps, RATE, watch)
    train(
        reward_model,
        model_loss,
        params.steps,
        RATE,
        lambda step, loss: tick(0.6 + 0.3 * step / params.steps, "model", loss=loss),
    )

    with torch.no_grad():
        log_policy = policy(tests).log_softmax(dim=1)
        log_detour = optimum(log_reference_test, reward_model(tests), params.beta)
    reward = implicit_reward(log_policy, log_reference_test, params.beta)
    right = (reward.gather(1, won_test[:, None]) > reward.gather(1, lost_test[:, None])).float().mean().item()

    def score(log_odds: Tensor) -> float:
        return (log_odds.exp() * scores).sum(dim=1).mean().item()

    before, after, drift = score(log_reference_test), score(log_policy), divergence(log_policy, log_reference_test)
    best = optimum(log_reference_test, scores, params.beta)
    ways = {
        "reference policy": log_reference_test,
        "DPO": log_policy,
        "reward model, then eq. (4)": log_detour,
        "true scores, then eq. (4)": best,
    }
    return Result(
        metrics=[
            Metric("true score", after),
            Metric("true score of the reference", before),
            Metric("implicit reward accuracy", right),
            Metric("KL to the reference", drift, "nats"),
        ],
        claims=[
            Claim("The policy gives what people like better: true score gained", after - before, ">=", 1.0),
            Claim("It orders answers as people do: share of new preferences that its implicit reward predicts",
                  right, ">=", 0.7),
            Claim("At the reference all is even: distance of the first loss from ln 2",
                  abs(start - math.log(2)), "<=", 1e-6),
            Claim("The loss leads where RLHF leads: largest difference from eq. (4) on three answers",
                  toy_optimum(params.beta), "<=", 1e-3),
        ],
        figures=[
            Lines("Implicit reward of new pairs", "step", "β log π / π_ref", at,
                  {"preferred": chosen, "other": rejected}),
        ],
        tables=[
            Table("Ways to the policy", ["way", "true score", "KL to the reference"], [
                [way, score(log_odds), divergence(log_odds, log_reference_test)] for way, log_odds in ways.items()
            ]),
        ],
    )  # fmt: skip
