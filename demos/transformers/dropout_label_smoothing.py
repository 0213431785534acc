"""Dropout and label smoothing

Question: How do these two regularisers change training, confidence and generalisation?
Source: Srivastava et al. 2014 (JMLR 15), §4 and §10 (dropout); Szegedy et al. 2015, arXiv:1512.00567, §7 (smoothing);
  where a transformer drops: Vaswani et al. 2017, arXiv:1706.03762, §5.4; attention weights: §6.3.
Watch: A transformer with more weights than it has texts. Unregularised it learns them by heart: the training loss goes
  to nothing, that of new texts climbs, and it is sure even where it is wrong. Regularised, the two losses stay closer.
  Do not divide by 1 − p ("not scaled"), and the mean of what each layer gets is another in training than in use.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Block, descend, start

V, WORDS, LENGTH, ON_TOPIC = 4, 40, 12, 0.4  # four topics of ten words each; share of a text's words drawn from its own
TRAINING, HELD_OUT, BATCH, RATE = 160, 600, 40, 4e-3
WIDTH, HEADS, LAYERS, DRAWS = 32, 2, 2, 100_000
PLACES = ("p_attention", "p_residual", "p_embedding")


class Params(DemoParams):
    p_attention: float = Field(0.2, ge=0.0, le=0.7, description="Dropout of attention weights, after the softmax")
    p_residual: float = Field(0.2, ge=0.0, le=0.7, description="Dropout of what a sublayer adds to the residual")
    p_embedding: float = Field(0.2, ge=0.0, le=0.7, description="Dropout of word plus place, before the first layer")
    inverted: bool = Field(True, description="Divide what is kept by 1 − p")
    smoothing: float = Field(0.1, ge=0.0, le=0.5, description="ε: share of the target spread over all classes")
    weight_decay: float = Field(0.0, ge=0.0, le=1.0, description="Decay of the weights, in AdamW")
    steps: int = Field(250, ge=50, le=1000, description="Training steps, 40 texts a step")
    seed: int = Field(0, ge=0, le=9999, description="Seed of texts, weights and dropout")

    presets: ClassVar[Mapping[str, Preset]] = {
        "nothing": Preset("Neither: both arms are one, learned by heart", {
            "p_attention": 0.0, "p_residual": 0.0, "p_embedding": 0.0, "smoothing": 0.0,
        }),
        "not scaled": Preset("Nothing makes up for what was dropped: the mean shrinks by p", {"inverted": False}),
        "smoothing alone": Preset("No dropout: learned by heart all the same, but less sure of itself", {
            "p_attention": 0.0, "p_residual": 0.0, "p_embedding": 0.0,
        }),
        "dropout alone": Preset("More dropout, no smoothing", {
            "p_attention": 0.3, "p_residual": 0.3, "p_embedding": 0.3, "smoothing": 0.0,
        }),
    }  # fmt: skip


def dropout(x: Tensor, p: float, rng: torch.Generator, *, inverted: bool = True) -> Tensor:
    """Zero each number with chance p; divide the others by 1 − p, so that the expected value stays x."""
    kept = torch.rand(x.shape, generator=rng) >= p
    return x * kept / (1 - p) if inverted else x * kept


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """−Σ q log p, the mean over rows; q is 1 − ε for the label, and ε / V more for each of V. logits (N, V)."""
    log_p = logits.log_softmax(dim=1)  # (N, V)
    right = log_p.gather(1, labels[:, None])[:, 0]  # (N,)
    return -((1 - smoothing) * right + smoothing * log_p.mean(dim=1)).mean()


def fitted_probability(smoothing: float) -> float:
    """The probability of the label at the minimum of the smoothed loss, found by descent on free logits."""
    logits, label = nn.Parameter(torch.zeros(1, V)), torch.zeros(1, dtype=torch.long)
    adam = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        descend([logits], adam, smoothed_loss(logits, label, smoothing))
    return logits.detach().softmax(dim=1)[0, 0].item()


def draw_texts(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts (n, LENGTH) and their topics (n,): some words from the ten of the topic, the others from all."""
    topics = torch.randint(V, (n,), generator=rng)
    own = WORDS // V * topics[:, None] + torch.randint(WORDS // V, (n, LENGTH), generator=rng)
    other = torch.randint(WORDS, (n, LENGTH), generator=rng)
    return torch.where(torch.rand(n, LENGTH, generator=rng) < ON_TOPIC, own, other), topics


class Reader(nn.Module):
    """A transformer that tells a text's topic, with dropout at its three places. `train()` and `eval()` switch it."""

    def __init__(self, params: Params, rng: torch.Generator) -> None:
        super().__init__()
        self.params, self.rng = params, rng
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = [Block(WIDTH, HEADS) for _ in range(LAYERS)]
        self.stack = nn.ModuleList(self.blocks)  # so that their weights are the model's
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, V)
        start(self, rng)

    def drop(self, x: Tensor, p: float) -> Tensor:
        return dropout(x, p, self.rng, inverted=self.params.inverted) if self.training and p else x

    def forward(self, texts: Tensor) -> Tensor:
        """texts (B, T) -> logits (B, V)."""
        p = self.params
        x = self.drop(self.words(texts) + self.places.weight, p.p_embedding)  # (B, T, d)
        for block in self.blocks:
            q, k, v = block.qkv(block.norm1(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (B, h, T, d/h)
            weights = (q @ k.mT * (WIDTH // HEADS) ** -0.5).softmax(dim=3)  # (B, h, T, T)
            mixed = self.drop(weights, p.p_attention) @ v  # a row now sums to 1 only on average
            x = x + self.drop(block.out(mixed.transpose(1, 2).flatten(2)), p.p_residual)  # the skip path stays whole
            x = x + self.drop(block.down(block.up(block.norm2(x)).relu()), p.p_residual)
        return self.head(self.norm(x).mean(dim=1))


@torch.no_grad()
def logits_in_use(model: Reader, texts: Tensor) -> Tensor:
    """Logits (B, V) with dropout off."""
    model.eval()
    logits = model(texts)
    model.train()
    return logits


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Mean gap between confidence and share right over ten bins of confidence, weighted by their texts."""
    sure, guess = probabilities.max(dim=1)
    right = (guess == labels).float()
    bins = (10 * sure).long().clamp(max=9)
    return sum((right - sure)[bins == one].sum().abs().item() for one in range(10)) / len(sure)


def learn(arm: Params, data: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], tick: Tick,
          begin: float) -> tuple[Reader, dict[str, list[float]]]:  # fmt: skip
    """A model trained on data with the regularisers of arm, and its loss on data and on new texts as it learns."""
    model = Reader(arm, torch.Generator().manual_seed(2 * arm.seed + 1))  # both arms: the same first weights
    order = torch.Generator().manual_seed(arm.seed)  # … and batches
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=arm.weight_decay)
    losses: dict[str, list[float]] = {"training texts": [], "new texts": []}
    for step in range(arm.steps + 1):
        if step % 25 == 0:  # plain −log p, for losses with different ε cannot be compared
            for curve, (texts, topics) in zip(losses.values(), (data, new), strict=True):
                curve.append(smoothed_loss(logits_in_use(model, texts), topics, 0.0).item())
            tick(begin + step / arm.steps / 2, f"step {step}", loss=losses["training texts"][-1])
        if step < arm.steps:
            some = torch.randint(TRAINING, (BATCH,), generator=order)
            descend(model.parameters(), adam, smoothed_loss(model(data[0][some]), data[1][some], arm.smoothing))
    return model, losses


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(2 * params.seed)
    data, new = draw_texts(TRAINING, rng), draw_texts(HELD_OUT, rng)
    bare = params.model_copy(update={**dict.fromkeys(PLACES, 0.0), "smoothing": 0.0, "weight_decay": 0.0})
    plain, plain_losses = learn(bare, data, new, tick, 0.0)
    model, losses = learn(params, data, new, tick, 0.5)

    x = torch.linspace(-1, 1, 9)
    mean = dropout(x.expand(DRAWS, 9), params.p_residual, rng, inverted=params.inverted).mean(dim=0)
    undropped = Reader(bare, rng)
    undropped.load_state_dict(model.state_dict())
    eval_gap = (logits_in_use(model, new[0]) - logits_in_use(undropped, new[0])).abs().max().item()
    amounts = [n / 10 for n in range(6)]
    fitted = [fitted_probability(smoothing) for smoothing in amounts]
    formula = [1 - smoothing + smoothing / V for smoothing in amounts]
    fit_gap = abs(fitted_probability(params.smoothing) - (1 - params.smoothing + params.smoothing / V))

    rows: dict[str, list[float]] = {}
    for name, arm, curves in (("neither", plain, plain_losses), ("regularised", model, losses)):
        p, (at_home, away) = logits_in_use(arm, new[0]).softmax(dim=1), curves.values()
        right = (p.argmax(dim=1) == new[1]).float().mean().item()
        rows[name] = [away[-1] - at_home[-1], right, p.max(dim=1).values.mean().item(), calibration_error(p, new[1])]
    (gap0, right0, sure0, error0), (gap, right, sure, error) = rows.values()
    return Result(
        metrics=[
            Metric("gap between the losses of new and of training texts", gap, "nats"),
            Metric("gap with neither", gap0, "nats"),
            Metric("accuracy on new texts", right),
            Metric("accuracy with neither", right0),
            Metric("mean top probability", sure),
            Metric("mean top probability with neither", sure0),
        ],
        claims=[
            Claim("Dropout keeps the mean: largest change of a number's mean over 100,000 draws",
                  (mean - x).abs().max().item(), "<=", 0.02),
            Claim("In use nothing is dropped: difference to the model without dropout", eval_gap, "==", 0),
            Claim("The smoothed loss is least at 1 − ε + ε/V: distance of the fitted probability",
                  fit_gap, "<=", 0.01),
            Claim("New texts are less of a surprise: gap of the losses over that with neither", gap / gap0, "<", 0.7),
            Claim("Confidence is better founded: calibration error over that with neither", error / error0, "<", 0.8),
        ],
        figures=[
            Lines("train-vs-validation: loss", x="step", y="nats", at=list(range(0, params.steps + 1, 25)), series={
                **{f"neither, {texts}": curve for texts, curve in plain_losses.items()},
                **{f"regularised, {texts}": curve for texts, curve in losses.items()}}),
            Lines("Probability of the label at the minimum of the loss", x="ε", y="probability", at=amounts,
                  series={"fitted": fitted, "1 − ε + ε/V": formula}),
        ],
        tables=[
            Table("confidence on new texts",
                  ["arm", "gap of the losses", "accuracy", "mean top probability", "calibration error"],
                  [[name, *numbers] for name, numbers in rows.items()]),
        ],
    )  # fmt: skip
