"""Sentences of five slots in which every concept has two words, so that the same can be said in many ways.

    subject verb object degree quality     "dog chasing cat not kind", or "hound hunting kitten not gentle"

Shared by demos of sentence encoders. A meaning is a row of five concept numbers; N sentences are (N, 5) int64.
"""

import torch
from torch import Tensor

KINDS = [[concept.split() for concept in kind.split(",")] for kind in (
    "dog hound, cat kitten, boy lad, girl lass, king ruler, thief robber",
    "chasing hunting, watching observing, helping aiding, calling summoning",
    "is, very, not",
    "good fine, kind gentle, smart clever, bad poor, cruel mean, dull stupid",
)]  # fmt: skip  # nouns, verbs, degrees, qualities; the first half of the qualities is good
CLS, SEP, MASK, WHO, WHOM, HOW = range(6)
WORDS = ["[CLS]", "[SEP]", "[MASK]", "who", "whom", "how", *(word for kind in KINDS for two in kind for word in two)]
SUBJECT, VERB, OBJECT, DEGREE, QUALITY = range(5)
NOT, GOOD = 2, 3  # the degree that turns a quality round; how many of the qualities are good
_SLOTS = [KINDS[kind] for kind in (0, 1, 0, 2, 3)]
_SPELLED = [torch.tensor([[WORDS.index(two[0]), WORDS.index(two[-1])] for two in slot]) for slot in _SLOTS]
SIZES = torch.tensor([len(slot) for slot in _SLOTS])  # concepts of each slot


def draw_meanings(n: int, rng: torch.Generator) -> Tensor:
    """Concepts of n sentences (n, 5), each as likely; subject and object differ."""
    meanings = (torch.rand(n, 5, generator=rng) * SIZES).long()
    shift = torch.randint(1, int(SIZES[SUBJECT]), (n,), generator=rng)
    meanings[:, OBJECT] = (meanings[:, SUBJECT] + shift) % SIZES[SUBJECT]
    return meanings


def alter(meanings: Tensor, where: Tensor, rng: torch.Generator) -> Tensor:
    """The meanings with another concept, each as likely, in the slots where it is True ((N, 5), or broadcast to it)."""
    other = meanings + 1 + (torch.rand(meanings.shape, generator=rng) * (SIZES - 1)).long()
    return torch.where(where, other % SIZES, meanings)


def say(meanings: Tensor, rng: torch.Generator) -> Tensor:
    """Word numbers (N, 5): of each concept either of its words, as likely."""
    which = torch.randint(2, meanings.shape, generator=rng)
    return torch.stack([words[meanings[:, slot], which[:, slot]] for slot, words in enumerate(_SPELLED)], dim=1)


def join(*parts: Tensor) -> Tensor:
    """[CLS] part [SEP] part [SEP] … of parts (N, n), as BERT reads them."""
    edge = torch.ones(len(parts[0]), 1, dtype=torch.long)
    return torch.cat([CLS * edge, *(x for part in parts for x in (part, SEP * edge))], dim=1)


def praises(meanings: Tensor) -> Tensor:
    """Whether a sentence speaks well of its subject, (N,) bool: "not" turns a quality round."""
    return (meanings[:, QUALITY] < GOOD) ^ (meanings[:, DEGREE] == NOT)


def deny(meanings: Tensor) -> Tensor:
    """The meanings (N, 5) with a "not" where there was none, and without where there was one."""
    degree = torch.where(meanings[:, DEGREE] == NOT, 0, NOT)
    return torch.cat([meanings[:, :DEGREE], degree[:, None], meanings[:, QUALITY:]], dim=1)


def ask(words: Tensor) -> Tensor:
    """The question that a sentence's last two words answer: "dog chasing cat is how", (N, 5) -> (N, 5)."""
    how = torch.tensor([WORDS.index("is"), HOW]).expand(len(words), 2)
    return torch.cat([words[:, :DEGREE], how], dim=1)
