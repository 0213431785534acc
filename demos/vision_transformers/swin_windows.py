"""Shifted windows: hierarchical vision transformers

Question: How does Swin keep attention linear in image size and still connect windows?
Source: Liu et al. 2021, arXiv:2103.14030, §3.1 (patch merging), §3.2: eqs. (1), (2) (cost), (3) (shifted blocks),
  (4) (relative position bias), figure 4 (cyclic shift and mask).
Watch: a patch looks only at its window, so cost grows with the number of windows. Every second block moves the borders,
  and what a patch knows spreads over them: 16, 64, 144 patches. Never move them (preset) and it stays at 16 for ever.
  The roll that makes all windows equal puts the image's opposite edges side by side; the mask keeps them apart.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from demos.contract import Claim, DemoParams, Heatmap, Images, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import start

C, HEADS, DEPTH = 16, 2, 4  # width of the first stage; heads; blocks whose reach is drawn


class Params(DemoParams):
    image_size: int = Field(32, ge=16, le=64, description="Side of the image in patches")
    window: int = Field(4, ge=2, le=8, description="Side M of a window, in patches")
    shift: int = Field(2, ge=0, le=4, description="Patches by which every second block moves its windows")
    stages: int = Field(2, ge=1, le=3, description="Stages of two blocks, with a patch merging between them")
    mask: bool = Field(True, description="Keep patches apart that only the roll has made neighbours")
    bias: bool = Field(True, description="Add a learned bias for each offset to the scores")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the weights and of the patches")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no shift": Preset("Windows that never move: nothing crosses their borders", {"shift": 0}),
        "no mask": Preset("The top of the image looks at its bottom", {"mask": False}),
        "no bias": Preset("A window is a bag: swapping two patches changes nothing for a third", {"bias": False}),
        "one stage": Preset("Nothing is merged: all patches stay, and stay narrow", {"stages": 1}),
    }

    @model_validator(mode="after")
    def _windows_fill_every_stage(self) -> "Params":
        last = self.image_size / 2 ** (self.stages - 1)
        if last % self.window or self.shift >= self.window:
            got = f"got a window of {self.window}, a side of {last:g} and a shift of {self.shift}"
            raise ValueError(f"window must divide the side of the last stage and be larger than shift; {got}")
        return self


def partition(x: Tensor, M: int) -> Tensor:
    """x (S, S, C) -> windows (S² / M², M², C), row by row."""
    S = len(x)
    return x.view(S // M, M, S // M, M, -1).transpose(1, 2).reshape(S**2 // M**2, M**2, -1)


def join(windows: Tensor, M: int, S: int) -> Tensor:
    """The way back: windows (S² / M², M², C) -> (S, S, C)."""
    return windows.view(S // M, S // M, M, M, -1).transpose(1, 2).reshape(S, S, -1)


def regions(S: int, M: int, shift: int) -> Tensor:
    """After the roll: patches (S, S) of one window that have one number were neighbours before it, too."""
    at = torch.arange(S)
    band = (at >= S - M).long() + (at >= S - shift).long()  # the last window, and what came from the other edge
    return 3 * band[:, None] + band


class Block(nn.Module):
    """Eq. (3): window attention and a two-layer network, each added to x (S, S, d)."""

    def __init__(self, d: int, M: int, shift: int, mask: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.M, self.shift, self.mask, self.bias = M, shift, mask, bias
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.table = nn.Parameter(torch.zeros(2 * M - 1, 2 * M - 1, HEADS))  # a bias for each offset and head

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Roll, cut, eq. (4) in each window, join, roll back: (S, S, d), and weights (windows, heads, M², M²)."""
        S, M, shift = len(x), self.M, self.shift if len(x) > self.M else 0  # a single window has nowhere to move
        windows = partition(x.roll((-shift, -shift), dims=(0, 1)), M)  # (windows, M², d)
        q, k, v = self.qkv(windows).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (windows, heads, M², d / h)
        scores = q @ k.mT / q.shape[-1] ** 0.5  # (windows, heads, M², M²)
        if self.bias:
            offset = torch.arange(M)[:, None] - torch.arange(M) + M - 1  # (M, M), along one axis
            bias = self.table[offset[:, None, :, None], offset[None, :, None, :]]  # (M, M, M, M, heads)
            scores = scores + bias.view(M**2, M**2, HEADS).permute(2, 0, 1)  # the same in all windows
        if self.mask:
            region = partition(regions(S, M, shift)[..., None], M)[:, None]  # (windows, 1, M², 1)
            scores = scores.masked_fill(region != region.mT, float("-inf"))
        weights = scores.softmax(dim=-1)
        mixed = self.out((weights @ v).transpose(1, 2).flatten(2))  # (windows, M², d)
        return join(mixed, M, S).roll((shift, shift), dims=(0, 1)), weights

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))[0]
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Merging(nn.Module):
    """2 x 2 patches side by side, 4d numbers, become one of 2d: (S, S, d) -> (S / 2, S / 2, 2d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * d), nn.Linear(4 * d, 2 * d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        four = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], dim=-1)
        return self.reduce(self.norm(four))


def count_flops(d: int, M: int, S: int) -> int:
    """Floating point operations of one window attention, counted on tensors that hold no numbers."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Block(d, M, 0).attend(torch.empty(S, S, d))
    return counter.get_total_flops()


def reach(model: nn.Module, x: Tensor) -> Tensor:
    """Which patches (S, S) have a say in the output at the middle: where its gradient is not zero."""
    x = x.clone().requires_grad_()
    y = model(x)
    (slope,) = torch.autograd.grad(y[len(y) // 2, len(y) // 2].square().sum(), [x])
    return slope.abs().sum(dim=2) > 0


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    S, M, shift = params.image_size, params.window, params.shift

    def block(d: int, number: int) -> Block:
        return Block(d, M, shift * (number % 2), params.mask, params.bias)

    blocks = [block(C, number) for number in range(DEPTH)]
    pyramid = [nn.Sequential(*blocks[:2])]
    pyramid += [nn.Sequential(Merging(d // 2), block(d, 0), block(d, 1)) for d in (2 * C, 4 * C)[: params.stages - 1]]
    for part in [*blocks, *pyramid[1:]]:
        start(part.double(), rng)
    x = torch.randn(S, S, C, generator=rng).double()
    spread = [reach(nn.Sequential(*blocks[:depth]), x) for depth in range(1, DEPTH + 1)]
    tick(0.3, "reach")

    with torch.no_grad():
        undone = (join(partition(x, M), M, S) - x).abs().max().item()
        weights = blocks[1].attend(x)[1]
        at = torch.arange(S).roll(-shift)  # where each row and column stood before the roll
        places = partition(torch.stack(torch.meshgrid(at, at, indexing="ij"), dim=2), M)  # (windows, M², 2)
        apart = (places[:, :, None] - places[:, None]).abs().amax(dim=3) >= M  # too far for any window
        wrapped = (weights * apart[:, None]).amax().item()
        swapped = x.clone()
        swapped[0, 0], swapped[0, 1] = x[0, 1], x[0, 0]
        told = (blocks[0].attend(x)[0] - blocks[0].attend(swapped)[0])[1, 1].abs().max().item()
    tick(0.5, "windows")

    maps = [x]
    for stage in pyramid:
        maps.append(stage(maps[-1]).detach())
    kept = maps[min(2, params.stages)].numel() / maps[1].numel()
    sides = [2 * M, 4 * M, 8 * M, 16 * M]
    local, whole = ([count_flops(C, side or own, own) for own in sides] for side in (M, 0))
    tick(0.9, "operations")

    number = (torch.arange(3 * M) - torch.tensor([[0], [shift]])).div(M, rounding_mode="floor")  # (2, 3M): of a window
    boards = [(0.2 + 0.6 * ((axis[:, None] + axis) % 2)).numpy().tolist() for axis in number]
    rolled = ((1 + regions(3 * M, M, shift)) / 9).numpy().tolist()
    sizes = [int(seen.sum()) for seen in spread]
    return Result(
        metrics=[
            *(Metric(f"patches that reach one in {n} blocks", size) for n, size in enumerate(sizes, start=1)),
            Metric("biases of a head", blocks[0].table[..., 0].numel()),
        ],
        claims=[
            Claim("Cutting into windows and joining loses nothing: largest change", undone, "<=", 0),
            Claim("Opposite edges never look at each other: largest weight", wrapped, "<=", 0),
            Claim("Moved windows connect: patches that reach one in two blocks, over those of a window",
                  sizes[1] / M**2, ">=", 2.5),
            Claim("The bias tells where patches are: change at a third when two of its window swap", told, ">=", 0.01),
            Claim("A merging halves the grid and doubles the width: share of numbers that it keeps", kept, "<=", 0.5),
            Claim("Cost is linear: operations for four times the patches", local[-1] / local[-2], "<=", 4),
            Claim("That of global attention is not: the same", whole[-1] / whole[-2], ">=", 10),
        ],
        figures=[
            Images("Three windows by three, and the regions that the mask keeps apart", [[*boards, rolled]],
                   column_labels=["block 1", "block 2, moved", "block 2, rolled"]),
            Images("Patches that reach the one in the middle after 1, 2, 3, 4 blocks (bright: first)",
                   [[torch.stack(spread).double().mean(dim=0).numpy().tolist()]]),
            Heatmap("Weights of the window that the roll put together from four corners", "looked at", "patch",
                    weights[-1, 0].numpy().tolist()),
            Lines("Operations of one attention layer", "side of the image in patches", "FLOP", sides,
                  {f"windows of {M} x {M}": local, "global": whole}, log="xy"),
        ],
        tables=[
            Table("Pyramid", ["stage", "side of the grid", "width", "numbers"],
                  [[n, len(y), y.shape[2], y.numel()] for n, y in enumerate(maps[1:], start=1)]),
            Table("Operations of one attention layer, millions", ["patches", "windows", "global", "global / windows"],
                  [[own**2, few / 1e6, many / 1e6, many / few]
                   for own, few, many in zip(sides, local, whole, strict=True)]),
        ],
    )  # fmt: skip
