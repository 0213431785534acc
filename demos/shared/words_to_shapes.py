"""A small text-conditioned denoiser of the drawn world: a U-Net that reads the words of a caption by cross-attention.

Source: Rombach et al. 2021, arXiv:2112.10752, §3.3 and eq. (3); guidance: Ho, Salimans 2022, arXiv:2207.12598, eq. (6);
  prediction of v: Salimans, Ho 2022, arXiv:2202.00512, §4, as in Stable Diffusion 2.

Shared by demos that do something to a model that already turns words into pictures. Shapes: B pictures of S x S, W =
width, L = words of a caption, D = size of a word.
"""

import math

import torch
from torch import Tensor, nn

from demos.contract import Tick
from demos.shared.ddpm import T, jump, make_schedule, step_back, train, visits
from demos.shared.shapes import COLOURS, SHAPES, SIDES, captions_of, draw_shapes
from demos.shared.unet import Block, embed_time

WORDS = ["", *COLOURS, *SHAPES, *SIDES, "sks"]  # "" pads; "sks" is a rare word that no caption has, as in DreamBooth
LENGTH, D, SIZE, BATCH, DROPPED = 4, 32, 8, 32, 0.15  # DROPPED of the captions are emptied, as guidance needs
ALPHA_BAR = make_schedule()  # (T + 1,)


def tokenize(captions: list[str]) -> Tensor:
    """Numbers of the words, 0 where there are no more, (N, LENGTH); an unknown word is a ValueError."""
    rows = [[WORDS.index(word) for word in caption.split()] for caption in captions]
    return torch.tensor([ids + [0] * (LENGTH - len(ids)) for ids in rows])


class CrossAttention(nn.Module):
    """Places ask, words answer: softmax(q kᵀ / √d) v in each head, added to the map."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.to_q, self.to_out = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels)
        self.to_k, self.to_v = nn.Linear(D, channels, bias=False), nn.Linear(D, channels, bias=False)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x (B, C, S, S), words (B, L, D) -> (B, C, S, S)."""
        places = self.norm(x).flatten(2).mT  # (B, S², C)
        q, k, v = (
            of.view(len(x), -1, self.heads, x.shape[1] // self.heads).transpose(1, 2)  # (B, heads, S² or L, d)
            for of in (self.to_q(places), self.to_k(words), self.to_v(words))
        )
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (B, heads, S², L)
        return x + self.to_out((weights @ v).transpose(1, 2).flatten(2)).mT.view(x.shape)


class WordUNet(nn.Module):
    """ε_θ(x_t, t, words): two sizes of map, each reads the words; a bridge keeps the detail."""

    def __init__(self, channels: int, size: int, rng: torch.Generator, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.width = width
        self.where = nn.Parameter(0.1 * torch.randn(width, size, size, generator=rng))  # else "left" has no meaning
        self.token, self.place = nn.Embedding(len(WORDS), D), nn.Embedding(LENGTH, D)
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.first, self.down = nn.Conv2d(channels, width, 3, padding=1), Block(width, width, 4 * width)
        self.read_high = CrossAttention(width, heads)
        self.shrink, self.middle = nn.Conv2d(width, 2 * width, 3, 2, 1), Block(2 * width, 2 * width, 4 * width)
        self.read_low = CrossAttention(2 * width, heads)
        self.grow, self.up = nn.Conv2d(2 * width, width, 1), Block(2 * width, width, 4 * width)
        self.norm, self.last = nn.GroupNorm(8, width), nn.Conv2d(width, channels, 3, padding=1)
        for module in self.modules():  # torch's usual range, from a generator of our own; biases start at 0
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=rng)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, generator=rng)
        for name, bias in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(bias)
        for block in (self.down, self.middle, self.up):
            nn.init.zeros_(block.conv2.weight)  # a block starts as the identity,
        nn.init.zeros_(self.last.weight)  # and the whole network predicts 0

    def read(self, ids: Tensor) -> Tensor:
        """The text encoder: ids (B, L) -> a vector of each word and its place (B, L, D)."""
        return self.token(ids) + self.place.weight

    def forward(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """x (B, channels, S, S), times t (B,) in [0, 1], words (B, L, D) -> predicted noise (B, channels, S, S).

        The layers predict v = √ᾱ ε − √(1 − ᾱ) x_0, which says something at every t; ε = √(1 − ᾱ) x_t + √ᾱ v.
        """
        e = nn.functional.silu(self.time(embed_time(t, self.width)))  # (B, 4W)
        fine = self.read_high(self.down(self.first(x) + self.where, e), words)  # (B, W, S, S)
        coarse = self.read_low(self.middle(self.shrink(fine), e), words)  # (B, 2W, S/2, S/2)
        back = nn.functional.interpolate(self.grow(coarse), scale_factor=2.0)  # (B, W, S, S)
        fine = self.up(torch.cat([back, fine], dim=1), e)
        v = self.last(nn.functional.silu(self.norm(fine)))
        a = ALPHA_BAR[(t * T).round().long()][:, None, None, None]
        return (1 - a).sqrt() * x + a.sqrt() * v


def noise_loss(model: WordUNet, x: Tensor, words: Tensor, rng: torch.Generator) -> Tensor:
    """‖ε − ε_θ(x_t, t, words)‖² / ᾱ_t, eq. (3), mean over pictures x (B, channels, S, S); t and ε are drawn.

    1 / ᾱ_t makes it the error of v: without it words, which decide where noise is strong, are learnt late.
    """
    t = torch.randint(1, T + 1, (len(x),), generator=rng)
    eps, a = torch.randn(x.shape, generator=rng), ALPHA_BAR[t][:, None, None, None]
    return ((model(jump(x, eps, ALPHA_BAR[t]), t / T, words) - eps).square() / a).mean()


def drop(ids: Tensor, rng: torch.Generator) -> Tensor:
    """Captions (B, L), some of them emptied."""
    return ids * (torch.rand(len(ids), 1, generator=rng) >= DROPPED)


def train_words(steps: int, rng: torch.Generator, tick: Tick, heads: int = 4) -> tuple[WordUNet, list[float]]:
    """A model of the drawn world of 8x8 pixels, trained on pictures drawn on the way, and its losses."""
    model = WordUNet(3, SIZE, rng, heads=heads)

    def draw_loss() -> Tensor:
        x, labels = draw_shapes(BATCH, rng, SIZE)
        return noise_loss(model, x, model.read(drop(tokenize(captions_of(labels)), rng)), rng)

    return model, train(model, draw_loss, steps, tick)


@torch.no_grad()
def sample(model: WordUNet, words: Tensor, x: Tensor, scale: float = 2.0, passes: int = 20) -> Tensor:
    """Noise x (B, 3, S, S) to pictures of words (B, L, D) by DDIM, guided away from the empty caption."""
    empty = model.read(torch.zeros(1, LENGTH, dtype=torch.long)).expand(len(x), -1, -1)
    for t, s in visits(T, passes):
        both = model(torch.cat([x, x]), torch.full((2 * len(x),), t / T), torch.cat([empty, words]))
        eps_0, eps_c = both.chunk(2)
        x = step_back(x, eps_0 + scale * (eps_c - eps_0), ALPHA_BAR[t], ALPHA_BAR[s])
    return x
