"""docs/commands.md: the help of every command, as the command line prints it.

python -m tests.cli.help        writes the page anew
"""

from pathlib import Path

import typer
from typer.testing import CliRunner

from ui.cli import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
HEAD = """# Commands

What `--help` prints. Exit codes: 0 done, 1 not found or refused, 2 wrong usage. Written by `make golden`.
"""


def page() -> str:
    """The page as the code has it now."""
    parts = [HEAD]
    for words in commands():
        result = CliRunner().invoke(app, [*words, "--help"], prog_name="genatlas", env={"COLUMNS": "100"})
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"\n## {' '.join(['genatlas', *words])}\n```\n{text}\n```\n")
    return "".join(parts)


def commands() -> list[list[str]]:
    """Every command as the words that call it, groups before their commands."""
    found: list[list[str]] = [[]]
    root = typer.main.get_command(app)
    for name, command in getattr(root, "commands", {}).items():
        found.append([name])
        found.extend([name, below] for below in getattr(command, "commands", {}))
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
