"""Eight-word answers to "how do I bake?", and the score that all people share and no model is shown.

Shared by demos that learn from preferences.
"""

import torch
from torch import Tensor

GREETINGS, TOPICAL, RUDE = ["hello", "dear"], ["bread", "flour", "oven", "yeast", "dough"], ["stupid", "nonsense"]
WORDS = [*GREETINGS, *TOPICAL, *RUDE, "and", "the", "then", "very", "so", "well", "it"]
LENGTH = 8
WANTED = torch.tensor([1.0, 0.8, -1.5, -0.7])  # what people share: a greeting first, topical words, rude words, repeats


def draw_answers(n: int, rng: torch.Generator) -> Tensor:
    """Answers as word numbers (n, 8): every word as likely, a greeting first in half of them."""
    answers = torch.randint(len(WORDS), (n, LENGTH), generator=rng)
    greeted = torch.rand(n, generator=rng) < 0.5
    answers[:, 0] = torch.where(greeted, torch.randint(len(GREETINGS), (n,), generator=rng), answers[:, 0])
    return answers


def spell(answer: Tensor) -> str:
    """The words of one answer (8,)."""
    numbers: list[int] = answer.numpy().tolist()
    return " ".join(WORDS[number] for number in numbers)


def features(answers: Tensor) -> Tensor:
    """What people look at, (n, 4): a greeting first, topical words up to three, rude words, words said twice."""
    topical, rude = len(GREETINGS), len(GREETINGS) + len(TOPICAL)
    return torch.stack([
        (answers[:, 0] < topical).float(),
        ((answers >= topical) & (answers < rude)).sum(dim=1).clamp(max=3).float(),
        ((answers >= rude) & (answers < rude + len(RUDE))).sum(dim=1).float(),
        (answers[:, 1:] == answers[:, :-1]).sum(dim=1).float(),
    ], dim=1)  # fmt: skip


def hidden_score(answers: Tensor) -> Tensor:
    """How good an answer is to all people together, (n,)."""
    return features(answers) @ WANTED
