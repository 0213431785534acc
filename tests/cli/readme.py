"""README.md and docs/study.md: the output of each command shown there, as the command line prints it.

python -m tests.cli.readme        builds the shipped atlas in a folder of its own and writes the outputs anew
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
STUDY = ROOT / "docs" / "study.md"
BLOCK = re.compile(r"```console\n\$ genatlas (?P<words>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)


def renewed(text: str, home: Path) -> str:
    """The page with the outputs that the atlas in `home` gives, from top to bottom, to a learner who begins there."""

    def run(block: re.Match[str]) -> str:
        output = printed(shlex.split(block["words"]), home, progress)
        return f"```console\n$ genatlas {block['words']}\n{output}```"

    with tempfile.TemporaryDirectory() as folder:
        progress = f"sqlite:///{folder}/progress.db"
        return BLOCK.sub(run, text)


def comparable(text: str) -> str:
    """The text without what differs between processors: the last digit of a cosine."""
    return re.sub(r"(meaning \d\.\d)\d", r"\1", text)


def printed(words: list[str], home: Path, progress: str = "") -> str:
    """What a command prints at a width of 100 columns, without the spaces at the ends of lines."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")}
    done = subprocess.run(
        [sys.executable, "-m", "ui.cli", *words],
        env=clean
        | {"GENATLAS_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        | ({"GENATLAS_PROGRESS_URL": progress} if progress else {}),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        printed(["build"], Path(folder))
        for page in (README, STUDY):
            page.write_text(renewed(page.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
