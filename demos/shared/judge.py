"""A judge of generated 8x8 digits: a small classifier of real ones, with features for the Fréchet distance.

It plays the part that an Inception network has for photographs. It never sees a generated image while it learns.
"""

import torch
from torch import Tensor, nn

from demos.shared.digits import load_digits

TRAIN, BATCH, STEPS = 1_400, 128, 400  # digits to learn from (the other 397 test it), and its training


class Judge(nn.Module):
    """Images (B, 1, 8, 8) in [0, 1] to logits of ten classes (B, 10); `accuracy` is that on the 397 held out."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)
        self.accuracy = 0.0
        for weight in self.parameters():
            nn.init.zeros_(weight) if weight.dim() == 1 else nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of the loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def train_judge(seed: int) -> Judge:
    """The judge that a seed gives, frozen. About half a CPU second."""
    rng = torch.Generator().manual_seed(seed)
    x, y = load_digits()
    order = torch.randperm(len(x), generator=rng)
    train, test = order[:TRAIN], order[TRAIN:]
    judge = Judge(rng)
    adam = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)
    for _ in range(STEPS):
        batch = train[torch.randint(TRAIN, (BATCH,), generator=rng)]
        noisy = x[batch] + 0.1 * torch.randn(BATCH, 1, 8, 8, generator=rng)  # so that it is not sure of everything
        loss = nn.functional.cross_entropy(judge(noisy), y[batch])
        descend(adam, loss)
    judge.requires_grad_(requires_grad=False)
    judge.accuracy = (judge(x[test]).argmax(dim=1) == y[test]).float().mean().item()
    return judge
