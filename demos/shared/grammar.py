"""Text drawn from a small grammar: its entropy is known exactly, and a parser tells what belongs to it.

    sentence -> subject [clause] verb [object] .      the verb agrees with the subject, not with the nearest noun
    clause   -> that verb object | that subject verb  "dogs that see the cat", "dogs that the cat sees"
    fact     -> the capital of X is Y .               40 of them, all true

Shared by demos that model language.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_FACTS = """
france paris, italy rome, spain madrid, germany berlin, austria vienna, poland warsaw, greece athens, norway oslo,
sweden stockholm, finland helsinki, ireland dublin, portugal lisbon, hungary budapest, romania bucharest, bulgaria
sofia, serbia belgrade, croatia zagreb, estonia tallinn, latvia riga, ukraine kyiv, turkey ankara, egypt cairo, kenya
nairobi, ghana accra, senegal dakar, morocco rabat, china beijing, japan tokyo, india delhi, nepal kathmandu, thailand
bangkok, iran tehran, iraq baghdad, cuba havana, peru lima, chile santiago, colombia bogota, canada ottawa, australia
canberra, fiji suva
"""  # each country with its capital
CAPITAL_BY_COUNTRY = dict(re.findall(r"(\w+)\s(\w+)", _FACTS))
CLASSES = {  # one letter for each class of words; a capital letter is the plural of the small one
    ".": ["."], "t": ["the"], "a": ["old", "young"], "r": ["that"], "c": ["capital"], "o": ["of"], "b": ["is"],
    "n": ["dog", "cat", "bird", "boy"], "v": ["sees", "chases", "likes"], "i": ["sleeps", "barks", "runs"],
    "N": ["dogs", "cats", "birds", "boys"], "V": ["see", "chase", "like"], "I": ["sleep", "bark", "run"],
    "x": list(CAPITAL_BY_COUNTRY), "y": list(CAPITAL_BY_COUNTRY.values()),
}  # fmt: skip
TAG = {word: letter for letter, words in CLASSES.items() for word in words}
WORDS = list(TAG)  # the vocabulary: 108 words, those of facts last
ID = {word: number for number, word in enumerate(WORDS)}
LONGEST = 13  # words of the longest sentence, full stop included
P_ADJECTIVE, P_CLAUSE, P_OBJECT, P_FACT = 0.3, 0.6, 0.5, 0.15


def draw_text(sentences: int, facts: bool, rng: torch.Generator) -> Tensor:
    """Sentences one after the other, as word numbers (M,) int64. Each choice is drawn for all sentences at once."""

    def chance(p: float) -> Tensor:
        return torch.rand(sentences, generator=rng) < p  # (S,)

    def pick(letter: str) -> Tensor:
        words = torch.tensor([ID[word] for word in CLASSES[letter]])
        return words[torch.randint(len(words), (sentences,), generator=rng)]  # (S,)

    def agree(letter: str, plural: Tensor) -> Tensor:
        return torch.where(plural, pick(letter.upper()), pick(letter))  # (S,)

    def noun_phrase(plural: Tensor, here: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(here, pick("t")), (here & chance(P_ADJECTIVE), pick("a")), (here, agree("n", plural))]

    subject, other, last = (chance(0.5) for _ in range(3))  # (S,) each: is this noun plural?
    clause, subject_acts, has_object = chance(P_CLAUSE), chance(0.5), chance(P_OBJECT)
    always = torch.ones(sentences, dtype=torch.bool)
    columns = [  # where a word stands in its sentence, and which
        *noun_phrase(subject, always),
        (clause, pick("r")),
        (clause & subject_acts, agree("v", subject)),
        *noun_phrase(other, clause),
        (clause & ~subject_acts, agree("v", other)),
        (always, torch.where(has_object, agree("v", subject), agree("i", subject))),
        *noun_phrase(last, has_object),
        (always, pick(".")),
    ]
    rows = torch.stack([torch.where(here, word, -1) for here, word in columns], dim=1)  # (S, 14); -1 is no word
    told = [f"the capital of {country} is {city} .".split() for country, city in CAPITAL_BY_COUNTRY.items()]
    facts_told = torch.tensor([[ID[word] for word in fact] for fact in told])  # (40, 7)
    fact = facts_told[torch.randint(len(told), (sentences,), generator=rng)]  # (S, 7)
    rows = torch.where((chance(P_FACT) & facts)[:, None], nn.functional.pad(fact, (0, 7), value=-1), rows)
    return rows[rows >= 0]


def spell(numbers: Tensor) -> list[str]:
    """The words of word numbers (M,)."""
    return [WORDS[number] for number in numbers.numpy()]


def source_entropy(facts: bool) -> float:
    """Entropy of `draw_text` in nats a word, exact: that of all choices in a sentence, over its mean length."""

    def coin(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    noun, noun_words = math.log(8) + coin(P_ADJECTIVE) + P_ADJECTIVE * math.log(2), 2 + P_ADJECTIVE
    clause, clause_words = math.log(2) + math.log(3) + noun, 2 + noun_words
    verb, verb_words = coin(P_OBJECT) + math.log(3) + P_OBJECT * noun, 1 + P_OBJECT * noun_words
    nats = noun + coin(P_CLAUSE) + P_CLAUSE * clause + verb
    words = noun_words + P_CLAUSE * clause_words + verb_words + 1
    if facts:
        nats = coin(P_FACT) + (1 - P_FACT) * nats + P_FACT * math.log(len(CAPITAL_BY_COUNTRY))
        words = (1 - P_FACT) * words + P_FACT * 7
    return nats / words


def parses(words: Sequence[str]) -> bool:
    """Whether the words are one sentence of the grammar, verbs agreeing with their own subjects; facts may be false."""
    one, many, phrase = "ta?n", "ta?N", "ta?[nN]"  # patterns over the letters of word classes
    clauses = {verb: f"(r({verb}{phrase}|{one}v|{many}V))?" for verb in "vV"}
    singular, plural = f"{one}{clauses['v']}(i|v{phrase})", f"{many}{clauses['V']}(I|V{phrase})"
    return re.fullmatch(rf"({singular}|{plural}|tcoxby)\.", "".join(TAG[word] for word in words)) is not None
