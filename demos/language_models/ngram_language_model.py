"""What a language model is: n-grams, chain rule, perplexity

Question: How can counting words give the probability of a sentence?
Source: Shannon 1948, "A mathematical theory of communication", §3; Kneser and Ney 1995; the interpolated form: Chen and
  Goodman 1999, "An empirical study of smoothing techniques for language modeling", eq. (21).
Watch: The sentence's probability as a product, one row a word. Counts alone give a sentence they have not seen the
  probability 0 (preset "unsmoothed"); smoothing gives every sentence some. With n = 1 word order is gone.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from demos.contract import Claim, DemoParams, Lines, Metric, Preset, Result, Table, Tick, no_tick
from demos.shared.grammar import draw_text, parses, source_entropy, spell

Smoothing = Literal["none", "add-k", "kneser-ney"]
Context = tuple[str, ...]
TRAINING, HELD_OUT, DISCOUNT, LONGEST = 3000, 400, 0.75, 6  # sentences; D of Kneser–Ney; largest n of the figure
START, END, UNKNOWN = "<s>", "</s>", "<unk>"


class Params(DemoParams):
    n: int = Field(3, ge=1, le=6, description="Order: a word is judged by the n − 1 before it")
    smoothing: Smoothing = Field("kneser-ney", description="What becomes of words not seen after a context")
    k: float = Field(0.1, ge=0.0, le=1.0, description="Count that add-k adds to every word")
    sentence: str = Field("the old dog sees the cat", description="Sentence to score")
    seed: int = Field(0, ge=0, le=9999, description="Seed of the text and of the samples")

    presets: ClassVar[Mapping[str, Preset]] = {
        "unsmoothed": Preset("Counts alone: some held-out sentences have probability 0", {"smoothing": "none"}),
        "unigram": Preset("Each word on its own: a shuffled sentence is as likely as the true one", {"n": 1}),
        "add-k": Preset("The same for every unseen word, likely or not", {"smoothing": "add-k"}),
    }  # fmt: skip


def padded(sentence: Sequence[str], n: int) -> list[str]:
    """The sentence with n − 1 start signs and its end, which is a word to be predicted like any other."""
    return [*[START] * (n - 1), *sentence, END]


class NGram:
    """Counts of n-grams in sentences, and P(word | context) from them."""

    def __init__(self, n: int, smoothing: Smoothing, sentences: Sequence[Sequence[str]], k: float = 0.1) -> None:
        self.n, self.smoothing, self.k = n, smoothing, k
        self.vocabulary = sorted({word for sentence in sentences for word in sentence} | {END, UNKNOWN})
        self.counts: dict[Context, Counter[str]] = defaultdict(Counter)  # context of any length -> next word -> count
        followed = set[Context]()
        for sentence in sentences:
            words = padded(sentence, n)
            for i in range(n - 1, len(words)):
                self.counts[tuple(words[i - n + 1 : i])][words[i]] += 1
                followed |= {tuple(words[i - m + 1 : i + 1]) for m in range(2, n + 1)}
        if smoothing == "kneser-ney":  # a shorter context counts in how many different places, not how often
            for gram in followed:
                self.counts[gram[1:-1]][gram[-1]] += 1
        self.total = {context: sum(counter.values()) for context, counter in self.counts.items()}

    def known(self, words: Sequence[str]) -> list[str]:
        """The words, those that training lacks as UNKNOWN."""
        return [word if word in self.vocabulary or word == START else UNKNOWN for word in words]

    def probability(self, word: str, context: Context) -> float:
        """P(word | context) for a context of n − 1 words or, in the recursion of Kneser–Ney, fewer."""
        count, total = self.counts[context][word] if context in self.counts else 0, self.total.get(context, 0)
        if self.smoothing == "none":
            return count / total if total else 0.0
        if self.smoothing == "add-k":
            whole = total + self.k * len(self.vocabulary)
            return (count + self.k) / whole if whole else 0.0
        shorter = self.probability(word, context[1:]) if context else 1 / len(self.vocabulary)
        if total == 0:
            return shorter
        given_away = DISCOUNT * len(self.counts[context]) / total  # what all discounts here add up to
        return max(count - DISCOUNT, 0) / total + given_away * shorter

    def conditionals(self, sentence: Sequence[str]) -> list[tuple[str, Context, float]]:
        """Each word of the sentence and its end, the context, and P(word | context)."""
        words = padded(self.known(sentence), self.n)
        steps = [(words[i], tuple(words[i - self.n + 1 : i])) for i in range(self.n - 1, len(words))]
        return [(word, context, self.probability(word, context)) for word, context in steps]

    def log_probability(self, sentence: Sequence[str]) -> float:
        """ln P(sentence) by the chain rule; −∞ where a factor is 0."""
        factors = [p for *_, p in self.conditionals(sentence)]
        return sum(math.log(p) for p in factors) if all(factors) else -math.inf

    def perplexity(self, sentences: Sequence[Sequence[str]]) -> float:
        """exp of the mean −ln P a word, ends included: among how many equally likely words it hesitates."""
        words = sum(len(sentence) + 1 for sentence in sentences)
        return math.exp(-sum(self.log_probability(sentence) for sentence in sentences) / words)

    def sample(self, rng: torch.Generator) -> list[str]:
        """A sentence drawn word by word, cut after 20 words."""
        words = [START] * (self.n - 1)
        while len(words) < self.n - 1 + 20:
            context = tuple(words[len(words) - self.n + 1 :])
            weights = torch.tensor([self.probability(word, context) for word in self.vocabulary])
            word = self.vocabulary[int(torch.multinomial(weights, 1, generator=rng))]
            if word == END:
                break
            words.append(word)
        return words[self.n - 1 :]


def sentences_of(n: int, rng: torch.Generator) -> list[list[str]]:
    """Sentences drawn from the grammar, without their full stops."""
    text = " ".join(spell(draw_text(n, facts=False, rng=rng)))
    return [sentence.split() for sentence in text.split(" .") if sentence]


def run(params: Params, tick: Tick = no_tick) -> Result:
    rng = torch.Generator().manual_seed(params.seed)
    training, held_out = sentences_of(TRAINING, rng), sentences_of(HELD_OUT, rng)
    model = NGram(params.n, params.smoothing, training, params.k)
    orders, curves = list(range(1, LONGEST + 1)), dict[str, list[float]]()
    curves["training, counts alone"] = [NGram(n, "none", training).perplexity(training) for n in orders]
    curves["held-out, Kneser–Ney"] = [NGram(n, "kneser-ney", training).perplexity(held_out) for n in orders]
    curves["held-out, add-k"] = [NGram(n, "add-k", training, max(params.k, 1e-3)).perplexity(held_out) for n in orders]
    tick(0.6, "six orders", perplexity=curves["held-out, Kneser–Ney"][params.n - 1])

    contexts = [context for sentence in held_out[:60] for _, context, _ in model.conditionals(sentence)]
    if params.smoothing == "none":
        contexts = [context for context in contexts if context in model.counts]  # without counts there is nothing
    sums = [sum(model.probability(word, context) for word in model.vocabulary) for context in contexts[:200]]
    uneven = max(abs(total - 1) for total in sums)
    true = [model.log_probability(sentence) for sentence in held_out[:200]]
    mixed = [[s[int(i)] for i in torch.randperm(len(s), generator=rng)] for s in held_out[:200]]
    better = sum(a > model.log_probability(b) for a, b in zip(true, mixed, strict=True)) / len(true)
    rows = model.conditionals(params.sentence.lower().split())
    product = math.prod(p for *_, p in rows)
    spoken = model.log_probability(params.sentence.lower().split())
    chain = abs(math.log(product) - spoken) if product else float(spoken != -math.inf)
    impossible = sum(model.log_probability(sentence) == -math.inf for sentence in held_out)
    bare = NGram(3, "none", training)
    impossible_bare = sum(bare.log_probability(sentence) == -math.inf for sentence in held_out)
    source = math.exp(source_entropy(facts=False))
    samples = [model.sample(rng) for _ in range(40)]
    parsed = [parses([*sample, "."]) if UNKNOWN not in sample else False for sample in samples]
    kneser_ney, add_k = (curves[f"held-out, {name}"] for name in ("Kneser–Ney", "add-k"))
    return Result(
        metrics=[
            *([Metric("log-probability of the sentence", spoken, "nats")] if product else []),
            Metric("held-out perplexity of Kneser–Ney at your n", curves["held-out, Kneser–Ney"][params.n - 1]),
            Metric("perplexity of the source itself", source),
            Metric("held-out sentences with probability 0", impossible, f"of {len(held_out)}"),
            Metric("samples that are sentences of the grammar", sum(parsed), f"of {len(parsed)}"),
        ],
        claims=[
            Claim("Every conditional sums to 1: largest distance over 200 contexts", uneven, "<=", 1e-9),
            Claim("The product of its rows is the sentence's probability: distance of the logs", chain, "<=", 1e-9),
            Claim("The true order is likelier than a shuffled one: share of sentences", better, ">=", 0.9),
            Claim("No held-out sentence is impossible: number with probability 0", impossible, "==", 0),
            Claim("Unsmoothed trigrams find some impossible: number", impossible_bare, ">=", 1),
            Claim("Kneser–Ney nears the source: least perplexity over its own", min(kneser_ney) / source, "<=", 1.3),
            Claim("At n = 6 it beats add-k: perplexity over perplexity", kneser_ney[-1] / add_k[-1], "<=", 0.85),
        ],
        figures=[
            Lines("Perplexity", "n", "perplexity", orders, {**curves, "source": [source] * len(orders)}),
        ],
        tables=[
            Table("Chain rule", ["word", "after", "P(word | context)", "ln P"], [
                *([word, " ".join(context) or "nothing", p, math.log(p) if p else "−∞"] for word, context, p in rows),
                ["product", "", product, spoken if product else "−∞"],
            ]),
            Table("Samples", ["sentence", "in the grammar"], [
                [" ".join(sample), "yes" if good else "no"] for sample, good in zip(samples[:10], parsed, strict=False)
            ]),
        ],
    )  # fmt: skip
