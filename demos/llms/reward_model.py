"""Learning what people prefer

Question: How do pairwise choices become a number a policy can maximise?
Source: Christiano et al. 2017, arXiv:1706.03741, eq. (1); Stiennon et al. 2020, arXiv:2009.01325, §3.4 (the loss);
  labels by principles: Bai et al. 2022, arXiv:2212.08073; Lee et al. 2023, arXiv:2309.00267.
Watch: nobody says how good an answer is, only which of two is better, and five people disagree. The model still finds
  the score that they share, up to a constant. An AI judge with three written rules labels for nothing, and misses what
  its rules leave out.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Bars, Claim, DemoParams, Lines, Metric, Preset, Result, Scatter, Table, Tick, no_tick
from demos.shared.answers import LENGTH, WANTED, WORDS, draw_answers, features, hidden_score, spell

WIDTH, BATCH, HELD_OUT = 32, 256, 2_000
DISAGREEMENT = 0.4  # deviation of one labeller's weights from what all share
CLEAR = 1.0  # difference of hidden scores that counts as clear


class Params(DemoParams):
    pairs: int = Field(2000, ge=100, le=10000, description="Labelled comparisons to learn from")
    labelers: int = Field(5, ge=1, le=20, description="Simulated labellers, each with weights of their own")
    noise: float = Field(1.0, ge=0.0, le=4.0, description="Temperature of a choice: at 0 the better one always wins")
    judge: Literal["human", "ai"] = Field("human", description="Who labels: simulated people, or rules")
    steps: int = Field(250, ge=50, le=1000, description="Training steps")
    seed: int = Field(0, ge=0, le=9999, description="Seed of answers, labellers and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "an AI judge": Preset("Labels by three rules, which say nothing of repeats and weigh by rank alone",
                              {"judge": "ai"}),
        "few and noisy": Preset("A hundred careless choices: the shared score is not found",
                                {"pairs": 100, "noise": 4.0}),
        "one labeller": Preset("One person's taste passes for everybody's", {"labelers": 1, "noise": 0.0}),
    }  # fmt: skip


def people_choose(a: Tensor, b: Tensor, weights: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    """Whether a is preferred to b, (n,): each pair goes to one of the labellers, whose weights are (labellers, 4)."""
    who = torch.randint(len(weights), (len(a),), generator=rng)
    gap = ((features(a) - features(b)) * weights[who]).sum(dim=1)
    p = torch.sigmoid(gap / noise) if noise else 0.5 * (1 + gap.sign())
    return torch.rand(len(a), generator=rng) < p


def rules_choose(a: Tensor, b: Tensor) -> Tensor:
    """An AI judge: fewer rude words; else the greeting first; else more topical words. It has no rule on repeats."""
    one, other = features(a), features(b)
    by_rule = torch.stack([other[:, 2] - one[:, 2], one[:, 0] - other[:, 0], one[:, 1] - other[:, 1]], dim=1).sign()
    return by_rule @ torch.tensor([4.0, 2.0, 1.0]) > 0  # the first rule that decides outweighs the later ones


class RewardModel(nn.Module):
    """One transformer layer over the words, their mean, and one number."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(len(WORDS), WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 1)
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight, generator=rng) if weight.dim() > 1 else nn.init.zeros_(weight)

    def forward(self, answers: Tensor) -> Tensor:
        """answers (N, 8) -> rewards (N,)."""
        x = self.words(answers) + self.places.weight  # (N, 8, d)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        x = x + self.mlp(x)
        return self.head(x.mean(dim=1))[:, 0]


def preference_loss(better: Tensor, worse: Tensor) -> Tensor:
    """−log σ(r_w − r_l), the mean over pairs: Bradley–Terry, in which only differences count."""
    return nn.functional.softplus(worse - better).mean()


def train(a: Tensor, b: Tensor, a_wins: Tensor, params: Params, tick: Tick, part: tuple[float, float]) -> RewardModel:
    """Fit rewards to choices between answers a and b (N, 8)."""
    rng = torch.Generator().manual_seed(2 * params.seed + 1)
    model = RewardModel(rng)
    better, worse = torch.where(a_wins[:, None], a, b), torch.where(a_wins[:, None], b, a)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
    for step in range(params.steps):
        some = torch.randint(len(a), (BATCH,), generator=rng)
        loss = preference_loss(model(better[some]), model(worse[some]))
        descend(adam, loss)
        if step % 25 == 0:
            done = part[0] + (part[1] - part[0]) * step / params.steps
            tick(done, f"{len(a)} pairs, step {step}", loss=loss.item())
    return model


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def accuracy(gap: Tensor, true_gap: Tensor, clear: float = 0.0) -> float:
    """Share of pairs, whose hidden scores differ by more than `clear`, that a gap in reward (N,) orders rightly."""
    counted = true_gap.abs() > clear
    return (gap.sign() == true_gap.sign())[counted].float().mean().item()


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    people = WANTED + DISAGREEMENT * torch.randn(params.labelers, 4, generator=rng)
    a, b = draw_answers(params.pairs, rng), draw_answers(params.pairs, rng)
    by_people, by_rules = people_choose(a, b, people, params.noise, rng), rules_choose(a, b)
    labels = by_people if params.judge == "human" else by_rules
    few = params.pairs // 10
    model = train(a, b, labels, params, tick, (0.0, 0.5))
    poorer = train(a[:few], b[:few], labels[:few], params, tick, (0.5, 1.0))

    c, d = draw_answers(HELD_OUT, rng), draw_answers(HELD_OUT, rng)
    chosen, true_gap = people_choose(c, d, people, params.noise, rng), hidden_score(c) - hidden_score(d)
    with torch.no_grad():
        rewards, gap, poorer_gap = model(c), model(c) - model(d), poorer(c) - poorer(d)
        shifted = preference_loss(model(c) + 3, model(d) + 3) - preference_loss(model(c), model(d))
    hidden = hidden_score(c)
    clear, plain = accuracy(gap, true_gap, CLEAR), accuracy(gap, true_gap)
    correlation = torch.corrcoef(torch.stack([rewards, hidden]))[0, 1].item()
    agreed = (rules_choose(c, d) == chosen).float().mean().item()

    predicted, bins = torch.sigmoid(gap), torch.linspace(0, 1, 11)
    place = torch.bucketize(predicted, bins[1:-1])
    counted = [number for number in range(10) if (place == number).sum() >= 20]
    frequency = [chosen[place == number].float().mean().item() for number in counted]
    middle = [predicted[place == number].mean().item() for number in counted]
    best: list[int] = rewards.argsort(descending=True)[:: HELD_OUT // 8][:8].numpy().tolist()
    return Result(
        metrics=[
            Metric("accuracy", clear),
            Metric("accuracy on all pairs", plain),
            Metric("accuracy with a tenth of the pairs", accuracy(poorer_gap, true_gap)),
            Metric("agreement with a single choice", ((gap > 0) == chosen).float().mean().item()),
            Metric("agreement of the AI judge with a single choice", agreed),
            Metric("correlation with the hidden score", correlation),
        ],
        claims=[
            Claim("It orders new answers as people would: share right where scores differ clearly", clear, ">=", 0.85),
            Claim("Its number follows the hidden score: correlation", correlation, ">=", 0.75),
            Claim("Only differences count: change of the loss when every reward grows by 3",
                  abs(shifted.item()), "<=", 1e-6),
            Claim("More pairs teach more: accuracy, less that of a tenth of them",
                  plain - accuracy(poorer_gap, true_gap), ">=", 0.02),
            Claim("Three rules label as people do: share of pairs", agreed, ">=", 0.7),
        ],
        figures=[
            Lines("Calibration: is a preference of 0.8 chosen in 0.8 of cases?", x="predicted σ(r_w − r_l)",
                  y="share chosen", at=middle, series={"model": frequency, "perfect": middle}),
            Scatter("Learned reward and hidden score", x="hidden score", y="reward", series={
                "answers": list(zip(hidden[:400].numpy().tolist(), rewards[:400].numpy().tolist(), strict=True))}),
            Bars("How often they agree with a person's choice", x="who", y="share of pairs",
                 labels=["reward model", "AI judge", "the hidden score itself"],
                 series={"agreement": [((score > 0) == chosen).float().mean().item()
                                       for score in (gap, 2.0 * rules_choose(c, d) - 1, true_gap)]}),
        ],
        tables=[
            Table("Answers by reward", ["answer", "reward", "hidden score"], [
                [spell(c[number]), round(float(rewards[number]), 2),
                 round(float(hidden[number]), 2)] for number in best
            ]),
        ],
    )  # fmt: skip
