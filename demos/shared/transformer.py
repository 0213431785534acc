"""A small pre-norm transformer that a demo's own random generator starts, and a loop that trains it.

Source: Vaswani et al. 2017, arXiv:1706.03762; norm before each part, tied output: Radford et al. 2019 (GPT-2), §2.3.

Shared by demos in which the model is any transformer, and the point is what it learns from. Shapes: B sequences of
n tokens, width d, V words.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def start(module: nn.Module, rng: torch.Generator) -> None:
    """Draw every weight from N(0, 1 / d), d its last axis, except norms' (which stay 1); biases become 0."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(weight)
            elif not isinstance(part, nn.LayerNorm):
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=rng)


class Block(nn.Module):
    """Attention and a two-layer network, each of which adds to x what it makes of x's norm."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, n, d) -> (B, n, d). mask broadcasts to (B, heads, n, n) and is True where a row may look."""
        B, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, mask)  # (B, heads, n, d / heads)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, n, d))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Words and learned positions, blocks, a last norm, and the word vectors once more as the output's weights."""

    def __init__(
        self, words: int, length: int, d: int, layers: int, heads: int, rng: torch.Generator, *, causal: bool
    ) -> None:
        super().__init__()
        self.causal = causal
        self.words, self.positions = nn.Embedding(words, d), nn.Embedding(length, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        start(self, rng)

    def hidden(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's vectors (B, n, d) of words (B, n). mask as in Block; a causal model adds its own."""
        n = words.shape[1]
        if self.causal:
            past = torch.ones(n, n, dtype=torch.bool).tril()
            mask = past if mask is None else mask & past
        x = self.words(words) + self.positions.weight[:n]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, n, V) of words (B, n)."""
        return self.hidden(words, mask) @ self.words.weight.T


def descend(weights: Iterable[nn.Parameter], optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the gradient of the loss, clipped at norm 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()


def train(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float, on_step: Callable[[int, float], None]
) -> None:
    """AdamW on `loss()`, drawn anew each step. The rate rises for a tenth of the steps and falls to nothing at the end.

    Weights that need no gradient stay as they are. on_step(step, loss) is called after each step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    rise = max(0.1, min(0.5, 3 / steps))  # torch divides by the steps of the rise, less one
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, rate, total_steps=steps, pct_start=rise, anneal_strategy="linear"
    )
    for step in range(steps):
        value = loss()
        descend(weights, adam, value)
        schedule.step()
        on_step(step, value.item())


@torch.no_grad()
def extend(model: Transformer, words: Tensor, count: int, temperature: float, rng: torch.Generator) -> Tensor:
    """words (B, n) and `count` more of the model's own, (B, n + count). Temperature 0 takes the likeliest."""
    for _ in range(count):
        logits = model(words)[:, -1]  # (B, V)
        if temperature == 0:
            drawn = logits.argmax(dim=1, keepdim=True)
        else:
            drawn = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=rng)
        words = torch.cat([words, drawn], dim=1)
    return words
