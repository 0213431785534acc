"""What each demo costs at its defaults and whether its claims hold, on several seeds: docs/demos.md.

    python -m bench.demos                 every demo, seeds 0, 1 and 2; writes the page
    python -m bench.demos gaussian-kl …   these alone; prints their rows

Two demos run at a time, each in the runner's subprocess with one thread, nothing taken from the cache. Seconds are CPU
seconds of the demo's `run`, the median over the seeds; memory is the largest resident size, torch's own included.
"""

import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from demos import DemoError, DemoSpec, Outcome, catalogue, describe, find_demo, run_demo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "demos.md"
SEEDS = (0, 1, 2)
AT_ONCE = 2
HEAD = """# Demos

Written by `make bench-demos`: CPU seconds of one thread at the defaults (median of seeds 0, 1 and 2), the largest
resident memory with torch in it, how many of the claims held on each seed, and the named settings.
`genatlas demo show ID` tells the rest.

| demo | title | CPU s | MiB | claims | held on seeds 0, 1, 2 | presets |
| --- | --- | ---: | ---: | ---: | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One demo's runs, one a seed, and the names of its presets."""

    spec: DemoSpec
    runs: tuple[Outcome, ...]
    presets: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Median CPU seconds."""
        return statistics.median(run.cpu_seconds for run in self.runs)

    @property
    def failed(self) -> list[str]:
        """The claims that did not hold, with the seed and the number."""
        return [
            f"{self.spec.id}, seed {seed}: {claim.statement}: "
            f"{claim.measured:.4g}, not {claim.relation} {claim.bound:g}"
            for seed, run in zip(SEEDS, self.runs, strict=True)
            for claim in run.result.claims
            if not claim.holds
        ]

    def markdown(self) -> str:
        """The row of the page."""
        memory = max(run.peak_bytes for run in self.runs) / 2**20
        held = ", ".join(str(sum(claim.holds for claim in run.result.claims)) for run in self.runs)
        cells = [
            f"`{self.spec.id}`",
            self.spec.title.replace("|", "\\|"),
            f"{self.seconds:.1f}",
            f"{memory:,.0f}",
            str(len(self.spec.claims)),
            held,
            ", ".join(self.presets),
        ]
        return f"| {' | '.join(cells)} |"


def measure(spec: DemoSpec) -> Row:
    """Run one demo on every seed."""
    with tempfile.TemporaryDirectory() as cache:
        runs = tuple(run_demo(spec.id, {"seed": seed}, cache=Path(cache), fresh=True) for seed in SEEDS)
        return Row(spec, runs, tuple(describe(spec.id, cache=Path(cache)).presets))


def attempt(spec: DemoSpec) -> Row | DemoError:
    """`measure`, with a run that failed told instead of ending all others."""
    try:
        return measure(spec)
    except DemoError as error:
        return error


def main(ids: list[str]) -> int:
    """Measure, print, and for all demos write the page; 1 when a claim failed or a demo did not run."""
    specs = [find_demo(each) for each in ids] or list(catalogue().values())
    failed: list[str] = []
    rows: list[Row] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for spec, outcome in zip(specs, pool.map(attempt, specs), strict=True):
            if isinstance(outcome, DemoError):
                failed.append(f"{spec.id}: {outcome}")
                continue
            rows.append(outcome)
            failed += outcome.failed
            print(outcome.markdown(), flush=True)
    if not ids:
        PAGE.write_text(HEAD + "".join(f"{row.markdown()}\n" for row in rows), encoding="utf-8")
    quick = sum(row.seconds <= 10 for row in rows)
    print(f"{len(rows)} demos, {quick} of them in at most 10 CPU s.", file=sys.stderr)
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
