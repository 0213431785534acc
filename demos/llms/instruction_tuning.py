"""From base model to assistant: supervised fine-tuning

Question: Why does a base model not follow instructions, and what do demonstrations change?
Source: Ouyang et al. 2022 (InstructGPT), arXiv:2203.02155, §3.1, §3.5; Wei et al. 2022 (FLAN), arXiv:2109.01652;
  demonstrations bring out what pre-training has put in: Zhou et al. 2023 (LIMA), arXiv:2305.11206.
Watch: the base model knows every fact and answers no question, for in the text that it read a question is followed by
  the next question. Some hundred demonstrations change that, on questions too that none of them asks. Ten do not, and
  where half of them are wrong the model imitates the errors (presets).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from demos.contract import Bars, Claim, DemoParams, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.transformer import Transformer, extend, train

ASKED = ["capital", "colour", "drink", "bird"]
SIGNS = ["is", ".", ",", "it", "?", "name", "hello", "<user>", "<assistant>", "<end>"]
IS, STOP, COMMA, IT, MARK, NAME, HELLO, USER, ASSISTANT, END = range(10)
COUNTRIES, ANSWERS, NAMES = 20, 8, 8  # 80 questions with eight possible answers each
ASK, COUNTRY, ANSWER = len(SIGNS), len(SIGNS) + len(ASKED), len(SIGNS) + len(ASKED) + COUNTRIES  # their first words
PERSON = ANSWER + len(ASKED) * ANSWERS
WORDS = [
    *SIGNS,
    *ASKED,
    *(f"land{i}" for i in range(COUNTRIES)),
    *(f"{asked}-{i}" for asked in ASKED for i in range(ANSWERS)),
    *(f"Ann{i}" for i in range(NAMES)),
]
TEXTS, LENGTH, WIDTH, LAYERS, HEADS = 4000, 32, 96, 2, 4  # texts to read, words in each; the model
PRE_STEPS, PRE_BATCH, PRE_RATE = 400, 32, 4e-3
BATCH, RATE = 16, 5e-4  # of fine-tuning: a tenth of the rate, so that little is forgotten
TEMPERATURE = 0.5  # at which answers are drawn
IGNORED = -100  # a target that cross-entropy leaves out


class Params(DemoParams):
    demonstrations: int = Field(400, ge=0, le=4000, description="Demonstrated conversations; 0 leaves the base model")
    quality: float = Field(1.0, ge=0, le=1, description="Share of demonstrated answers that are right")
    mask_prompt: bool = Field(True, description="Take the loss on the assistant's words only")
    turns: int = Field(
        2, ge=1, le=4, description="Most turns of a talk; with two or more, the last asks for a name told in the first"
    )
    sft_steps: int = Field(250, ge=0, le=1500, description="Steps of fine-tuning, 16 conversations each")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the facts, the texts and the weights")

    presets: ClassVar[Mapping[str, Preset]] = {
        "base model": Preset("No demonstration: a question is followed by a question", {"demonstrations": 0}),
        "ten demonstrations": Preset("Too few to show what they have in common", {"demonstrations": 10}),
        "half of them wrong": Preset("The errors are imitated too", {"quality": 0.5}),
        "four turns": Preset("The name is asked for after two other questions", {"turns": 4}),
    }


@dataclass(frozen=True)
class Facts:
    """The world: answers (asked, country) as words, and which questions demonstrations may ask, as pairs."""

    answers: Tensor
    shown: Tensor  # (60, 2)
    unseen: Tensor  # (20, 2): each asked of five countries


def make_facts(rng: torch.Generator) -> Facts:
    """Every answer at random; a quarter of the questions are kept from the demonstrations."""
    first = ANSWER + ANSWERS * torch.arange(len(ASKED))[:, None]
    answers = first + torch.randint(ANSWERS, (len(ASKED), COUNTRIES), generator=rng)
    pairs = torch.cartesian_prod(torch.arange(len(ASKED)), torch.arange(COUNTRIES))
    kept = (pairs[:, 1] - pairs[:, 0]) % 4 == 0
    return Facts(answers, pairs[~kept], pairs[kept])


def write_text(facts: Facts, rng: torch.Generator) -> list[int]:
    """What the base model reads: "capital land3 is capital-5 ." in two wordings, or a quiz, which is all questions."""

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=rng))

    quiz, person = draw(3) == 0, PERSON + draw(NAMES)
    text = [NAME, person, STOP]
    while len(text) < LENGTH + 1:
        asked, country = draw(len(ASKED)), draw(COUNTRIES)
        subject = [ASK + asked, COUNTRY + country]
        if draw(5) == 0:
            text += [NAME, MARK] if quiz else [NAME, IS, person, STOP]
        elif quiz:
            text += [*subject, MARK]
        else:
            text += [*subject, *([IS], [COMMA, IT, IS])[draw(2)], int(facts.answers[asked, country]), STOP]
    return text[: LENGTH + 1]


def converse(
    facts: Facts, turns: int, pairs: Tensor, quality: float, rng: torch.Generator
) -> tuple[list[int], list[bool]]:
    """A conversation's words, and which of them the assistant says: a name, turns − 2 questions, the name again.

    A single turn is one question. Questions are drawn from `pairs`, and a share of 1 − quality answered at random.
    """
    text, said = list[int](), list[bool]()

    def turn(user: list[int], *assistant: int) -> None:
        text.extend([USER, *user, ASSISTANT, *assistant, END])
        said.extend([False] * (len(user) + 2) + [True] * (len(assistant) + 1))

    person = PERSON + int(torch.randint(NAMES, (), generator=rng))
    if turns > 1:
        turn([NAME, person, STOP], HELLO, person)
    for _ in range(1 if turns == 1 else turns - 2):
        asked, country = pairs[torch.randint(len(pairs), (), generator=rng)]
        guess = ANSWER + ANSWERS * asked + torch.randint(ANSWERS, (), generator=rng)
        right = torch.rand((), generator=rng) < quality
        turn([ASK + int(asked), COUNTRY + int(country), MARK], int(facts.answers[asked, country] if right else guess))
    if turns > 1:
        turn([NAME, MARK], person)
    return text, said


def demonstrate(params: Params, facts: Facts, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Conversations (number, n) and targets (number, n): the next word where it counts, IGNORED elsewhere."""
    number = params.demonstrations
    words = torch.full((number, LENGTH + 1), END)
    counts = torch.zeros(number, LENGTH + 1, dtype=torch.bool)
    longest = 0
    for row in range(number):
        turns = int(torch.randint(1, params.turns + 1, (), generator=rng))
        text, said = converse(facts, turns, facts.shown, params.quality, rng)
        words[row, : len(text)] = torch.tensor(text)
        counts[row, : len(text)] = torch.tensor(said) if params.mask_prompt else True
        longest = max(longest, len(text))
    return words[:, : longest - 1], words[:, 1:longest].masked_fill(~counts[:, 1:longest], IGNORED)


def next_word_loss(model: Transformer, words: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the targets that count: of the base model's whole texts, or of the assistant's words."""
    return cross_entropy(model(words).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def tune(base: Transformer, params: Params, facts: Facts, rng: torch.Generator) -> Transformer:
    """A copy of the base model after the demonstrations; as it is where there are none."""
    model = copy.deepcopy(base)
    if params.demonstrations and params.sft_steps:
        words, targets = demonstrate(params, facts, rng)

        def loss() -> Tensor:
            some = torch.randint(len(words), (BATCH,), generator=rng)
            return next_word_loss(model, words[some], targets[some])

        train(model, loss, params.sft_steps, RATE, lambda _step, _value: None)
    return model


def ask(pairs: Tensor) -> Tensor:
    """Questions (n, 2) in the chat's format, (n, 5), up to where the assistant begins."""
    sign = torch.ones(len(pairs), dtype=torch.long)
    subject = [ASK + pairs[:, 0], COUNTRY + pairs[:, 1]]
    return torch.stack([USER * sign, *subject, MARK * sign, ASSISTANT * sign], dim=1)


@torch.no_grad()
def followed(model: Transformer, prompts: Tensor, answers: Tensor) -> float:
    """Chance that the model says the answer and stops, over prompts (n, length) and their answers (n,).

    It is that of drawing both words at TEMPERATURE, computed instead of drawn.
    """
    logits = model(torch.cat([prompts, answers[:, None]], dim=1))[:, -2:]  # for the answer and for what follows it
    p = (logits / TEMPERATURE).softmax(dim=2)
    return (p[:, 0].gather(1, answers[:, None])[:, 0] * p[:, 1, END]).mean().item()


def recall(model: Transformer, turns: int, facts: Facts, rng: torch.Generator) -> float:
    """How surely the model gives, at the end of 100 conversations, the name told at their beginning."""
    talks = torch.tensor([converse(facts, turns, facts.unseen, 1.0, rng)[0] for _ in range(100)])
    return followed(model, talks[:, :-2], talks[:, -2])


def knowledge(model: Transformer, facts: Facts, rng: torch.Generator) -> float:
    """Share of the 80 facts with which the model ends the statement, in a text's second sentence."""
    pairs = torch.cat([facts.shown, facts.unseen])
    opening = torch.tensor([NAME, PERSON, STOP]).expand(len(pairs), 3)
    statements = torch.cat([opening, ask(pairs)[:, 1:3], torch.full((len(pairs), 1), IS)], dim=1)
    ends = extend(model, statements, 1, 0.0, rng)[:, -1]
    return (ends == facts.answers[pairs[:, 0], pairs[:, 1]]).float().mean().item()


def prompt_gradient(model: Transformer, words: Tensor, targets: Tensor) -> float:
    """Largest gradient of the loss at a logit before a word that the assistant does not say."""
    logits = model(words).detach().requires_grad_()
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    (gradient,) = torch.autograd.grad(loss, [logits])
    speaks = (words == ASSISTANT).cumsum(dim=1) > (words == END).cumsum(dim=1)  # from its sign to the end of its turn
    return gradient.masked_fill(speaks[:, :, None], 0).abs().max().item()


def spell(words: Tensor) -> str:
    return " ".join(WORDS[int(word)] for word in words)


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    facts = make_facts(rng)
    texts = torch.tensor([write_text(facts, rng) for _ in range(TEXTS)])
    base = Transformer(len(WORDS), LENGTH, WIDTH, LAYERS, HEADS, rng, causal=True)

    def loss() -> Tensor:
        some = texts[torch.randint(TEXTS, (PRE_BATCH,), generator=rng)]
        return next_word_loss(base, some[:, :-1], some[:, 1:])

    def report(step: int, value: float) -> None:
        if step % 25 == 0:
            tick(0.7 * step / PRE_STEPS, "pre-training", loss=value)

    train(base, loss, PRE_STEPS, PRE_RATE, report)
    ways = {
        "as asked": {},
        "a tenth as many": {"demonstrations": params.demonstrations // 10},
        "half as many right": {"quality": params.quality / 2},
    }
    tuned = dict[str, Transformer]()
    for way, change in ways.items():
        tick(0.7 + 0.1 * len(tuned), f"fine-tuning, {way}")
        tuned[way] = tune(base, params.model_copy(update=change), facts, rng)
    assistant = tuned["as asked"]
    unseen, right = ask(facts.unseen), facts.answers[facts.unseen[:, 0], facts.unseen[:, 1]]
    share = {name: followed(model, unseen, right) for name, model in [("base model", base), *tuned.items()]}

    words, targets = demonstrate(params.model_copy(update={"demonstrations": 64}), facts, rng)
    knows = knowledge(base, facts, rng)
    gain = {way: share["as asked"] - share[way] for way in ways}
    part = params.sft_steps * BATCH * words.shape[1] / (PRE_STEPS * PRE_BATCH * LENGTH)
    return Result(
        metrics=[
            Metric("followed", share["as asked"]),
            Metric("followed by the base model", share["base model"]),
            *(Metric("recall of an earlier turn", recall(assistant, n, facts, rng)) for n in [params.turns] if n > 1),
            Metric("words of fine-tuning", part, "of pre-training's"),
        ],
        claims=[
            Claim("The base model knows the facts: share of statements that it ends rightly", knows, ">=", 0.9),
            Claim("Yet it does not answer: share of questions after which it says the answer",
                  share["base model"], "<=", 0.2),
            Claim("Demonstrations make it: share, of questions that none of them asked", share["as asked"], ">=", 0.85),
            Claim("A tenth as many do less: share, less that after a tenth", gain["a tenth as many"], ">=", 0.05),
            Claim("Quality counts: share, less that with half as many right", gain["half as many right"], ">=", 0.1),
            Claim("The user's words teach nothing: largest gradient at their logits",
                  prompt_gradient(assistant, words, targets), "<=", 0.0),
            Claim("It is cheap: words of fine-tuning, as a share of pre-training's", part, "<=", 0.3),
        ],
        figures=[Bars("Questions followed that no demonstration asked", "model", "share", list(share),
                      {"followed": list(share.values())})],
        tables=[Table("The same prompt, before and after", ["prompt", "base model", "assistant", "right"],
                      [[spell(prompt), spell(extend(base, prompt[None], 5, 0.0, rng)[0, len(prompt):]),
                        spell(extend(assistant, prompt[None], 2, 0.0, rng)[0, len(prompt):]), WORDS[int(answer)]]
                       for prompt, answer in zip(unseen[::5], right[::5], strict=True)])],
    )  # fmt: skip
