"""From prompt to 77 vectors

Question: What happens to the words before the U-Net sees them?
Source: byte pairs: Sennrich, Haddow, Birch 2015, arXiv:1508.07909, algorithm 1; CLIP's text model: Radford et al.
  2021, arXiv:2103.00020, §2.4; attention: Vaswani et al. 2017, arXiv:1706.03762, eq. (1); the bidirectional one: Devlin
  et al. 2018, arXiv:1810.04805, §3; OpenCLIP: Cherti et al. 2022, arXiv:2212.07143.
Watch: words fall apart as merges are taken away; start, end and padding fill every prompt up to 77. Change one word:
  with the causal mask no earlier vector moves, without it all do. Byte pairs are learnt from captions drawn here. The
  weights are random, so vectors have no meaning yet; what can depend on what is as in the trained encoders.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from demos.contract import Bars, Claim, DemoParams, Heatmap, Metric, Preset, Result, Table, Tick, no_tick

LENGTH, HEADS, CAPTIONS = 77, 4, 200
PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = [chr(byte) for byte in (*PRINTED, *sorted({*range(256)} - {*PRINTED}))]  # all 256, in CLIP's order: "!" is 0
END_OF_WORD = "</w>"
WORDS = {
    "kind": ["a photograph of", "a drawing of", "an oil painting of", "a blurry picture of"],
    "size": ["small", "large", "tiny", "huge"], "place": ["left", "right", "top", "bottom"],
    "colour": ["red", "green", "blue", "yellow", "orange", "purple", "white", "black"],
    "shape": ["disc", "ring", "cross", "square", "triangle", "star", "hexagon", "diamond"],
}  # fmt: skip
Kind = Literal["cliptext", "bert", "openclip"]


class Params(DemoParams):
    prompt: str = Field("a red disc on the left", max_length=600, description="Text")
    negative: str = Field("", max_length=600, description="Negative prompt; empty as for plain guidance")
    encoder: Kind = Field(
        "cliptext", description="Causal CLIP, bidirectional BERT, or OpenCLIP (GELU, last layer but one)"
    )
    merges: int = Field(120, ge=0, le=400, description="Byte-pair merges, fewer where the captions hold no more")
    layers: int = Field(2, ge=1, le=6, description="Layers")
    width: int = Field(64, ge=16, le=768, description="Size of each vector, cut to a multiple of 4")
    seed: int = Field(0, ge=0, le=9999, description="Seed of captions and weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "no merges": Preset("Every letter is a token: prompts get long and are cut sooner", {"merges": 0}),
        "bidirectional": Preset("No causal mask: every word sees all", {"encoder": "bert"}),
        "openclip": Preset("The last layer but one, GELU, another padding", {"encoder": "openclip"}),
        "too long": Preset(
            "What comes after token 75 is never seen", {"prompt": "a very " + "long " * 40 + "list, red"}
        ),
    }


def words_of(text: str) -> list[str]:
    """Lower-cased words, single digits and runs of other signs, as CLIP cuts text before its byte pairs."""
    return re.findall(r"[^\W\d_]+|\d|[^\s\w]+|_+", text.lower())


def symbols(word: str) -> list[str]:
    """The bytes of a word, the last one marked as its end."""
    letters = list(word.encode().decode("latin-1"))
    return [*letters[:-1], letters[-1] + END_OF_WORD]


def join(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """The parts with every occurrence of the pair, from the left, made one."""
    joined: list[str] = []
    n = 0
    while n < len(parts):
        found = tuple(parts[n : n + 2]) == pair
        joined.append("".join(pair) if found else parts[n])
        n += 2 if found else 1
    return joined


def learn_merges(texts: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Algorithm 1: join the most frequent pair of neighbours, again and again; the first in the alphabet of equals."""
    frequency = Counter(word for text in texts for word in words_of(text))
    parts = {word: symbols(word) for word in frequency}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs = Counter[tuple[str, str]]()
        for word, of in parts.items():
            for pair in itertools.pairwise(of):
                pairs[pair] += frequency[word]
        if not pairs:  # every word is one piece
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        parts = {word: join(of, best) for word, of in parts.items()}
        merges.append(best)
    return merges


class Tokenizer:
    """Text to ids and back. Ids: 256 bytes, 256 bytes that end a word, the merges, start, end (CLIP has 49,408)."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self.rank = {pair: n for n, pair in enumerate(merges)}
        self.pieces = [*BYTES, *(byte + END_OF_WORD for byte in BYTES), *map("".join, merges), "<start>", "<end>"]
        self.id_of = {piece: n for n, piece in enumerate(self.pieces)}
        self.start, self.end = len(self.pieces) - 2, len(self.pieces) - 1

    def cut(self, word: str) -> list[str]:
        """The pieces of a word: merges are applied in the order in which they were learnt."""
        parts = symbols(word)
        while True:
            ranked = [(self.rank[pair], pair) for pair in itertools.pairwise(parts) if pair in self.rank]
            if not ranked:
                return parts
            parts = join(parts, min(ranked)[1])

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        return [self.id_of[piece] for word in words_of(text) for piece in self.cut(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, a space after each word."""
        raw = "".join(self.pieces[n] for n in ids if n not in (self.start, self.end))
        return raw.replace(END_OF_WORD, " ").strip().encode("latin-1").decode(errors="replace")

    def fill(self, text: str, padding: int) -> list[int]:
        """Exactly 77 ids: start, at most 75 of the text, end, padding."""
        ids = [self.start, *self.encode(text)[: LENGTH - 2], self.end]
        return ids + [padding] * (LENGTH - len(ids))


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's activation, an approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


class Layer(nn.Module):
    """Attention and feed-forward around shortcuts: norms before each as in GPT and CLIP, or after each as in BERT."""

    def __init__(self, c: int, kind: Kind) -> None:
        super().__init__()
        self.kind, eps = kind, 1e-12 if kind == "bert" else 1e-5
        self.q, self.k, self.v, self.out = (nn.Linear(c, c) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.norm1, self.norm2 = nn.LayerNorm(c, eps=eps), nn.LayerNorm(c, eps=eps)

    def attend(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. (1) in each head. x (B, L, c), mask (B, L, L) -> (B, L, c) and the weights (B, heads, L, L)."""
        q, k, v = (of(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for of in (self.q, self.k, self.v))
        weights = (q @ k.mT / math.sqrt(q.shape[-1]) + mask[:, None]).softmax(dim=-1)  # (B, heads, L, L)
        return self.out((weights @ v).transpose(1, 2).flatten(2)), weights

    def feed(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(quick_gelu(h) if self.kind == "cliptext" else F.gelu(h))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "bert":
            mixed, weights = self.attend(x, mask)
            x = self.norm1(x + mixed)
            return self.norm2(x + self.feed(x)), weights
        mixed, weights = self.attend(self.norm1(x), mask)
        x = x + mixed
        return x + self.feed(self.norm2(x)), weights


class Encoder(nn.Module):
    """Ids (B, 77) -> one vector for each (B, 77, c), and the attention of the layer they leave (B, heads, 77, 77)."""

    def __init__(self, kind: Kind, vocabulary: int, c: int, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.tokens, self.positions = nn.Embedding(vocabulary, c), nn.Embedding(LENGTH, c)
        self.layers = nn.ModuleList(Layer(c, kind) for _ in range(layers))
        self.norm = nn.LayerNorm(c, eps=1e-12 if kind == "bert" else 1e-5)  # BERT's follows its embeddings
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(weight, std=c**-0.5 if weight.dim() == 2 else 0.02, generator=rng)

    def forward(self, ids: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """`padding` (B, 77) tells which ids are; BERT hides them, CLIP reads them like any token."""
        x = self.tokens(ids) + self.positions.weight  # (B, 77, c)
        later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)  # (77, 77): keys that come after the query
        hidden = padding[:, None].expand(-1, LENGTH, -1) if self.kind == "bert" else later.expand(len(ids), -1, -1)
        mask = torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)  # (B, 77, 77)
        x = self.norm(x) if self.kind == "bert" else x
        states, weights = [x], torch.zeros(len(ids), HEADS, LENGTH, LENGTH)
        for layer in self.layers[:-1] if self.kind == "openclip" else self.layers:
            x, weights = layer(x, mask)
            states.append(x)
        return states[-1] if self.kind == "bert" else self.norm(states[-1]), weights


def draw_captions(n: int, rng: torch.Generator) -> list[str]:
    """Captions such as "a drawing of a small red disc on the left"."""

    def pick(of: str) -> str:
        return WORDS[of][int(torch.randint(len(WORDS[of]), (), generator=rng))]

    return [
        f"{pick('kind')} a {pick('size')} {pick('colour')} {pick('shape')} on the {pick('place')}" for _ in range(n)
    ]


def torch_layer(layer: Layer) -> nn.TransformerEncoderLayer:
    """The same layer as torch has it, with the weights copied."""
    c, early = layer.q.in_features, layer.kind != "bert"
    theirs = nn.TransformerEncoderLayer(c, HEADS, 4 * c, 0.0, F.gelu, layer.norm1.eps, True, early)
    if layer.kind == "cliptext":
        theirs.activation = quick_gelu
    theirs.load_state_dict({
        "self_attn.in_proj_weight": torch.cat([of.weight for of in (layer.q, layer.k, layer.v)]),
        "self_attn.in_proj_bias": torch.cat([of.bias for of in (layer.q, layer.k, layer.v)]),
        **{f"self_attn.out_proj.{name}": value for name, value in layer.out.state_dict().items()},
        **{f"linear{n}.{name}": value for n in (1, 2) for name, value in getattr(layer, f"fc{n}").state_dict().items()},
        **{f"norm{n}.{name}": value for n in (1, 2) for name, value in getattr(layer, f"norm{n}").state_dict().items()},
    })  # fmt: skip
    return theirs


@torch.no_grad()
def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    captions = draw_captions(CAPTIONS, rng)
    merges = learn_merges(captions, params.merges)
    tokenizer, plain = Tokenizer(merges), Tokenizer([])
    tick(0.2, f"{len(merges)} merges learnt")
    c = params.width // 4 * 4

    def encode(texts: Sequence[str], kind: Kind) -> tuple[list[list[int]], Tensor, Tensor]:
        """Ids, vectors (B, 77, c) and attention (B, heads, 77, 77) by the encoder of this kind and seed."""
        rows = [tokenizer.fill(text, tokenizer.end if kind == "cliptext" else 0) for text in texts]
        lengths = torch.tensor([[min(len(tokenizer.encode(text)), LENGTH - 2) + 2] for text in texts])
        model = Encoder(kind, len(tokenizer.pieces), c, params.layers, torch.Generator().manual_seed(params.seed))
        return rows, *model(torch.tensor(rows), torch.arange(LENGTH) >= lengths)

    words = words_of(params.prompt) or ["red"]
    colours = [n for n, word in enumerate(words) if word in WORDS["colour"]]
    place = colours[0] if colours else len(words) // 2  # of the word that is changed
    changed = [*words[:place], "green" if words[place] != "green" else "red", *words[place + 1 :]]
    first = 1 + len(tokenizer.encode(" ".join(words[:place])))  # token at which the change begins
    moved = dict[str, Tensor]()
    for kind in ("cliptext", "bert"):
        _, both, _ = encode([" ".join(words), " ".join(changed)], kind)
        moved[kind] = (both[0] - both[1]).abs().amax(dim=-1)  # (77,)
    before = {kind: of[: min(first, LENGTH)].max().item() for kind, of in moved.items()}
    tick(0.5, "one word changed", **before)

    trials = [params.prompt, params.negative, "", "long " * 100, *captions]
    odd = 0
    for n in range(0, len(trials), 34):
        rows, vectors, _ = encode(trials[n : n + 34], params.encoder)
        odd += sum(len(row) != LENGTH or tokenizer.end not in row for row in rows)
        odd += sum(of.shape != (LENGTH, c) or not bool(of.isfinite().all()) for of in vectors)
        tick(0.5 + 0.4 * n / len(trials), f"{n} prompts")
    wrong = sum(tokenizer.decode(tokenizer.encode(text)) != text for text in captions)
    count = sum(len(words_of(text)) for text in captions)
    pieces, letters = (sum(len(of.encode(text)) for text in captions) / count for of in (tokenizer, plain))

    ids, vectors, weights = encode([params.prompt, params.negative], params.encoder)
    again = (vectors[0] - encode([params.prompt], params.encoder)[1][0]).abs().max().item()
    apart = (vectors[0] - vectors[1]).square().sum(dim=1).sqrt().mean().item()
    layer = Layer(c, params.encoder)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.2, generator=rng)
    x = torch.randn(2, LENGTH, c, generator=rng)
    mask = torch.full((LENGTH, LENGTH), -math.inf).triu(1) if params.encoder != "bert" else torch.zeros(LENGTH, LENGTH)
    theirs = torch_layer(layer).train()(x, mask)  # in training mode it takes no short cut; dropout is 0
    gap = ((layer(x, mask.expand(2, -1, -1))[0] - theirs).abs().max() / theirs.abs().max()).item()

    used = min(len(tokenizer.encode(params.prompt)) + 2, LENGTH)
    shown = min(used + 2, 24, LENGTH)
    names = [f"{n} {tokenizer.pieces[ids[0][n]] if n < used else 'pad'}" for n in range(shown)]

    def row(text: str, of: list[int], n: int) -> list[str | int]:
        length = min(len(tokenizer.encode(text)) + 2, LENGTH)
        role = "start" if n == 0 else "piece" if n < length - 1 else "end" if n == length - 1 else "padding"
        return [n, tokenizer.pieces[of[n]], of[n], role]

    cut = max(0, len(tokenizer.encode(params.prompt)) - (LENGTH - 2))
    return Result(
        metrics=[
            Metric("shape", LENGTH, f"vectors of {c}"),
            Metric("vocabulary", len(tokenizer.pieces), "entries"),
            Metric("pieces of the prompt", used - 2),
            Metric("pieces of the prompt that are cut off", cut),
            Metric("pieces a word in captions", pieces),
            Metric("distance of prompt and negative prompt", apart),
        ],
        claims=[
            Claim("Every prompt, empty or too long, gives 77 finite vectors: exceptions", odd, "==", 0),
            Claim("Decoding the ids returns the text: captions of 200 that differ", wrong, "==", 0),
            Claim("Merges shorten captions: pieces over those without any", pieces / letters, "<=", 0.5),
            Claim("With the causal mask a changed word moves nothing before it: largest change", before["cliptext"],
                  "==", 0),
            Claim("Without the mask it does: largest change", before["bert"], ">=", 0.01),
            Claim("Same prompt, same vectors: largest difference", again, "<=", 1e-5),
            Claim("A layer gives what torch's own does with its weights: largest relative difference", gap, "<=", 1e-5),
        ],
        figures=[
            Heatmap("Attention of each token (rows) to the others, mean of heads", "read", "reader",
                    weights[0].mean(dim=0)[:shown, :shown].numpy().tolist(), names, names),
            Bars(f'"{words[place]}" becomes "{changed[place]}": how far each vector moves', "", "largest change", names,
                 {name: of[:shown].numpy().tolist()
                  for name, of in zip(("causal", "bidirectional"), moved.values(), strict=True)}),
        ],
        tables=[
            Table(f'Tokens of "{params.prompt}"', ["place", "piece", "id", "role"],
                  [row(params.prompt, ids[0], n) for n in range(min(used + 2, LENGTH))]),
            Table("From text to vectors", ["stage", "prompt", "negative prompt"], [
                ["words", *(" · ".join(words_of(text)) for text in (params.prompt, params.negative))],
                ["pieces", *(" ".join(tokenizer.pieces[n] for n in tokenizer.encode(text))
                             for text in (params.prompt, params.negative))],
                ["ids, start and end added, padded", *(f"{len(of)}" for of in ids)],
                ["vectors", *("x".join(map(str, of.shape)) for of in vectors)],
            ]),
            Table("The first and the last merges", ["rank", "left", "right"],
                  [[n, *merges[n]] for n in range(len(merges)) if n < 12 or n >= len(merges) - 6]),
        ],
    )  # fmt: skip
