"""Ten thousand odd queries over the atlas that was built last: what is refused, what fails, and how slow it gets.

    python -m bench.odd_queries            exit code 1 when one fails with anything but a clear refusal

Drawn from a fixed seed: empty, very long, emoji, control characters, SQL, right-to-left, NUL, lone surrogates, stacked
accents, one endless word, markup, and plain questions with any of these mixed in. Beside them, in the same run, plain
questions: their 99th percentile is what the odd ones' is held against.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.search import questions
from service import Service, open_service, user_message

COUNT = 10_000
SQL = ["'; DROP TABLE topics; --", '" OR 1=1 --', "UNION SELECT * FROM topics", "%' AND sleep(5) --"]
MARKUP = [
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "../../etc/passwd",
    "[x](javascript:y)",
    "$$\\frac{",
]
HEBREW, ARABIC, EMOJI = "אבגדהוזחטיכלמנס", "ابتثجحخدذرزسشص", "😀🚀🔥👩‍👩‍👧🏽‍♂️🇩🇪❤️‍🔥"
ACCENTS = [chr(code) for code in range(0x300, 0x36F)]


def kinds(rng: random.Random, plain: list[str]) -> dict[str, Callable[[], str]]:
    """How to draw a query of each kind."""

    def some(signs: str | list[str], least: int, most: int) -> str:
        return "".join(rng.choice(signs) for _ in range(rng.randint(least, most)))

    def mixed(other: Callable[[], str]) -> Callable[[], str]:
        def draw() -> str:
            words = rng.choice(plain).split()
            words.insert(rng.randint(0, len(words)), other()[:300])
            return " ".join(words)

        return draw

    odd: dict[str, Callable[[], str]] = {
        "empty": lambda: some(" \t\n?!.,​", 0, 20),
        "control characters": lambda: some([chr(code) for code in range(32)] + list("abc "), 1, 200),
        "NUL": lambda: rng.choice(plain).replace(" ", "\0", 1),
        "emoji": lambda: some(EMOJI, 1, 300),
        "SQL": lambda: rng.choice(SQL),
        "markup": lambda: rng.choice(MARKUP),
        "right to left": lambda: "‮" + some(HEBREW + ARABIC + " ", 1, 400),
        "lone surrogates": lambda: some([chr(code) for code in range(0xD800, 0xD900)] + list("gan "), 1, 50),
        "stacked accents": lambda: "a" + some(ACCENTS, 1, 900),
        "one endless word": lambda: some("abcdefgh", 300, 1_000),
        "nested brackets": lambda: rng.choice("([{$*_`") * rng.randint(1, 900),
        "any character": lambda: some([chr(rng.randrange(1, 0x10FFFF)) for _ in range(40)], 1, 900),
        "too long": lambda: "why " * 25_000,
    }
    return odd | {f"a question with {name}": mixed(draw) for name, draw in odd.items() if name != "too long"}


def times(service: Service, queries: list[tuple[str, str]]) -> tuple[list[float], Counter[str], list[str]]:
    """Milliseconds of each answered query; how many of each kind were refused; what failed."""
    took: list[float] = []
    refused: Counter[str] = Counter()
    failed: list[str] = []
    for kind, query in queries:
        begin = time.perf_counter()
        try:
            service.search(query)
        except Exception as error:
            if user_message(error) is None:
                failed.append(f"{kind}: {query[:60]!r}: {error!r}")
            refused[kind] += 1
        else:
            took.append((time.perf_counter() - begin) * 1e3)
    return took, refused, failed


def main() -> int:
    """Measure and print; 1 when something failed."""
    service = open_service()
    rng = random.Random(0)
    plain = questions(1_000)
    draws = kinds(rng, plain)
    odd = [(kind, draws[kind]()) for kind in rng.choices(list(draws), k=COUNT)]
    times(service, [("warm", query) for query in plain[:50]])
    base, _, _ = times(service, [("plain", query) for query in plain[50:]])
    took, refused, failed = times(service, odd)
    table = Table("", "queries", "p50 ms", "p99 ms", "longest ms")
    for name, row in (("plain questions", base), ("odd queries that are answered", took)):
        table.add_row(name, f"{len(row):,}", *(f"{value:.2f}" for value in (*np.quantile(row, [0.5, 0.99]), max(row))))
    out = Console()
    out.print(table)
    out.print(f"{sum(refused.values()):,} refused: {', '.join(f'{kind} {n}' for kind, n in refused.most_common())}.")
    out.print(f"p99 of odd over plain: {np.quantile(took, 0.99) / np.quantile(base, 0.99):.1f}. Failed: {len(failed)}.")
    for line in failed[:20]:
        out.print(line, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
