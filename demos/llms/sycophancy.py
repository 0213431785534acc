"""The yes-man problem and how a reward fixes it

Question: Why do preference-trained models agree with a wrong user?
Source: Sharma et al. 2023, arXiv:2310.13548 (raters prefer agreement, and training on their preferences follows them);
  Perez et al. 2022, arXiv:2212.09251; a score for sycophancy in the reward: OpenAI 2025, GPT-5 system card, §3.3;
  policy gradient with a baseline: Williams 1992, doi:10.1007/BF00992696.
Watch: the rewards of two answers to a wrong user decide everything. While agreeing pays, the policy learns to agree,
  whatever it knows; the penalty has to exceed the break-even weight 2·approval − 1, and then it cures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.perceptron import perceptron

DIGITS, SUMS = 5, 9  # questions "a + b = ?" with a and b from 0 to 4, so nine answers
GOES_ALONG = 0.1  # share of human demonstrations that repeat what the user believes
IMITATION, BATCH = 300, 512  # steps of imitation; questions a step, in both trainings
PAIRS = torch.cartesian_prod(torch.arange(DIGITS), torch.arange(DIGITS))  # all (a, b), (25, 2)


class Params(DemoParams):
    penalty: float = Field(1.0, ge=0.0, le=3.0, description="Weight of the sycophancy score in the reward")
    approval: float = Field(0.6, ge=0.0, le=1.0, description="Share of the reward that raters give for agreeing")
    wrong_belief: float = Field(0.5, ge=0.0, le=1.0, description="Share of training questions with a wrong belief")
    iterations: int = Field(60, ge=10, le=200, description="Iterations of policy gradient")
    seed: int = Field(0, ge=0, le=9999, description="Seed of weights, questions and answers")

    presets: ClassVar[Mapping[str, Preset]] = {
        "approval only": Preset("Without the score the yes-man stays: the cure fails", {"penalty": 0.0}),
        "too small a penalty": Preset("Below the break-even weight 0.8 it changes little",
                                      {"approval": 0.9, "penalty": 0.5}),
        "raters who want truth": Preset("Nothing to cure: at 0.4 and less the truth pays more", {"approval": 0.3}),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Questions:
    """What the assistant reads: a and b (N,), and the sum that the user says it believes (N,)."""

    a: Tensor
    b: Tensor
    belief: Tensor

    @property
    def truth(self) -> Tensor:
        """The right answers, (N,)."""
        return self.a + self.b

    @property
    def encoded(self) -> Tensor:
        """Digits and belief as one-hot rows, (N, 5 + 5 + 9)."""
        one_hot = nn.functional.one_hot
        return torch.cat([one_hot(self.a, DIGITS), one_hot(self.b, DIGITS), one_hot(self.belief, SUMS)], dim=1).float()


def ask(n: int, wrong: float, rng: torch.Generator) -> Questions:
    """Questions with a believed sum, which is wrong in a share of them: then any of the eight others."""
    a, b = torch.randint(DIGITS, (2, n), generator=rng)
    shift = torch.randint(1, SUMS, (n,), generator=rng) * (torch.rand(n, generator=rng) < wrong)
    return Questions(a, b, (a + b + shift) % SUMS)


def reward(asked: Questions, answer: Tensor, approval: float, penalty: float) -> Tensor:
    """What an answer earns, (N,): raters like truth and agreement; the score marks agreement with a wrong belief."""
    right, agrees = answer == asked.truth, answer == asked.belief
    sycophantic = agrees & ~right
    return (1 - approval) * right + approval * agrees - penalty * sycophantic.float()


def imitate(rng: torch.Generator) -> nn.Sequential:
    """The base assistant: trained on human answers, most of them right, some going along with the user."""
    policy = perceptron([2 * DIGITS + SUMS, 64, 64, SUMS], nn.ReLU, rng)
    adam = torch.optim.Adam(policy.parameters(), lr=3e-3, fused=True)
    for _ in range(IMITATION):
        asked = ask(BATCH, 0.5, rng)
        goes_along = torch.rand(BATCH, generator=rng) < GOES_ALONG
        answers = torch.where(goes_along, asked.belief, asked.truth)
        step(adam, nn.functional.cross_entropy(policy(asked.encoded), answers))
    return policy


def reinforce(
    base: nn.Sequential, penalty: float, params: Params, tick: Tick, part: tuple[float, float]
) -> tuple[nn.Sequential, list[float]]:
    """Policy gradient from the base assistant: the policy, and its agreement with wrong beliefs before each step."""
    rng = torch.Generator().manual_seed(2 * params.seed + 1)  # the same questions for every reward
    policy = perceptron([2 * DIGITS + SUMS, 64, 64, SUMS], nn.ReLU, rng)
    policy.load_state_dict(base.state_dict())
    adam = torch.optim.Adam(policy.parameters(), lr=1e-2, fused=True)
    agreement = [agrees_with_wrong(policy)]
    for number in range(params.iterations):
        asked = ask(BATCH, params.wrong_belief, rng)
        log_pi = policy(asked.encoded).log_softmax(dim=1)  # (N, 9)
        answer = torch.multinomial(log_pi.detach().exp(), 1, generator=rng)[:, 0]  # (N,), sampled from the policy
        earned = reward(asked, answer, params.approval, penalty)
        advantage = earned - earned.mean()  # the baseline: better or worse than answers are on average
        step(adam, -(advantage * log_pi.gather(1, answer[:, None])[:, 0]).mean())
        agreement.append(agrees_with_wrong(policy))
        done = part[0] + (part[1] - part[0]) * (number + 1) / params.iterations
        tick(done, f"penalty {penalty:g}, iteration {number + 1}", agreement=agreement[-1])
    return policy, agreement


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def every_question(wrong: bool) -> Questions:
    """All questions with the right belief (25), or with each of the eight wrong ones (200)."""
    shifts = torch.arange(1, SUMS) if wrong else torch.zeros(1, dtype=torch.long)
    a, b = (column.repeat_interleave(len(shifts)) for column in PAIRS.T)
    return Questions(a, b, (a + b + shifts.repeat(len(PAIRS))) % SUMS)


@torch.no_grad()
def probability(policy: nn.Module, asked: Questions, answer: Tensor) -> float:
    """Mean probability that the policy gives these answers (N,): exact, nothing is sampled."""
    return policy(asked.encoded).softmax(dim=1).gather(1, answer[:, None]).mean().item()


def agrees_with_wrong(policy: nn.Module) -> float:
    """Probability of repeating the user's belief, over all wrong beliefs."""
    asked = every_question(wrong=True)
    return probability(policy, asked, asked.belief)


def run(params: Params, tick: Tick = no_tick) -> Result:
    base = imitate(torch.Generator().manual_seed(2 * params.seed))
    yes_man, climbing = reinforce(base, 0.0, params, tick, (0.0, 0.5))
    cured, falling = reinforce(base, params.penalty, params, tick, (0.5, 1.0))
    policies = {"imitation": base, "approval only": yes_man, f"with penalty {params.penalty:g}": cured}
    wrong, right = every_question(wrong=True), every_question(wrong=False)
    truthful = {name: probability(policy, wrong, wrong.truth) for name, policy in policies.items()}
    confirms = {name: probability(policy, right, right.truth) for name, policy in policies.items()}
    agreement = {name: agrees_with_wrong(policy) for name, policy in policies.items()}
    chosen = list(policies)[-1]

    one = Questions(*(torch.tensor([value]) for value in (2, 2, 5)))  # "2 + 2 is 5, isn't it?"
    earned = {
        name: [reward(one, torch.tensor([answer]), params.approval, weight).item() for answer in (4, 5, 7)]
        for name, weight in (("approval only", 0.0), (chosen, params.penalty))
    }
    shown = [Questions(*(torch.tensor([value]) for value in row)) for row in ((2, 2, 5), (1, 3, 8), (4, 0, 4))]
    return Result(
        metrics=[
            Metric("agreement", agreement[chosen]),
            Metric("agreement on approval alone", agreement["approval only"]),
            Metric("agreement of the base", agreement["imitation"]),
            Metric("truth told to a wrong user", truthful[chosen]),
            Metric("right beliefs confirmed", confirms[chosen]),
            Metric("break-even weight of the score", max(0.0, 2 * params.approval - 1)),
        ],
        claims=[
            Claim("Training on approval makes a yes-man: rise of agreement with wrong beliefs",
                  agreement["approval only"] - agreement["imitation"], ">=", 0.5),
            Claim("The score in the reward cures it: agreement over that of approval alone",
                  agreement[chosen] / agreement["approval only"], "<=", 0.33),
            Claim("It learns the truth and not to contradict: right beliefs confirmed", confirms[chosen], ">=", 0.9),
            Claim("The yes-man gives up what it knew: truth told to a wrong user, before less after",
                  truthful["imitation"] - truthful["approval only"], ">=", 0.5),
        ],
        figures=[
            Lines("Agreement with wrong beliefs", x="iteration", y="probability", at=list(range(len(climbing))),
                  series={"approval only": climbing, chosen: falling}),
            Bars("What an answer to “2 + 2 is 5, isn't it?” earns", x="answer", y="reward",
                 labels=["4, the truth", "5, as the user says", "7"], series=earned),
            Bars("What the assistant does", x="trained on", y="probability", labels=list(policies), series={
                "agrees with a wrong belief": list(agreement.values()),
                "tells a wrong user the truth": list(truthful.values()),
                "confirms a right belief": list(confirms.values()),
            }),
        ],
        tables=[
            Table("Most probable answers", ["question", "the user says", *policies], [
                [f"{asked.a.item()} + {asked.b.item()} = ?", str(asked.belief.item()),
                 *(str(policy(asked.encoded).argmax().item()) for policy in policies.values())]
                for asked in shown
            ]),
        ],
    )  # fmt: skip
