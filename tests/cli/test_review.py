"""Reviews on the command line; each test has a database of its own, and what is due was last asked long ago."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import Genatlas

Me = Callable[..., "CompletedProcess[str]"]
ELBO = "variational-autoencoders/training-objectives/elbo"
KL = "foundations/information-theory/kl-divergence"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "progress.db"


@pytest.fixture
def me(genatlas: Genatlas, file: Path) -> Me:
    """The command line with progress in a file of the test's own."""
    return lambda *arguments, **more: genatlas("review", *arguments, GENATLAS_PROGRESS_URL=f"sqlite:///{file}", **more)


def let_days_pass(file: Path, days: int) -> None:
    """Move every review into the past."""
    with sqlite3.connect(file) as connection:
        for column in ("last_review", "due"):
            connection.execute(f"UPDATE genatlas_memory SET {column} = datetime({column}, '-{days} days')")  # noqa: S608
    connection.close()


def test_what_was_added_comes_due_and_is_asked_with_its_answer(me: Me, file: Path) -> None:
    assert "Nothing is in review yet" in me("due").stdout
    assert "2 more in review, 2 in all" in me("add", ELBO, KL).stderr
    assert "0 more in review, 2 in all" in me("add", ELBO).stderr
    assert json.loads(me("next", "--json").stdout) is None
    let_days_pass(file, 30)
    due = json.loads(me("due", "--json").stdout)
    assert sorted(due["due"]) == sorted([ELBO, KL])
    card = json.loads(me("next", "--json").stdout)
    assert card["topic"] == ELBO, "its recall exercises the other"
    assert card["question"]
    assert card["answer"]


def test_a_recall_puts_off_what_it_exercises_and_a_failure_names_where_to_look(me: Me, file: Path) -> None:
    me("add", ELBO, KL)
    let_days_pass(file, 7)
    again = json.loads(me("rate", ELBO, "again", "--json").stdout)
    assert again["weakest"]["topic"] == KL
    assert again["weakest"]["recall"] < 1
    assert "look there first" in me("rate", ELBO, "again").stdout
    credited = json.loads(me("rate", KL, "good", "--json").stdout)
    assert credited["weakest"] is None
    assert credited["memory"]["due"] > again["memory"]["due"]


def test_a_sitting_asks_until_nothing_is_due(me: Me, file: Path) -> None:
    me("add", ELBO, KL)
    let_days_pass(file, 40)
    sitting = me("start", said="\n3\n\nx\n4\n")
    assert sitting.returncode == 0
    assert "ELBO (Evidence Lower Bound): good" in sitting.stdout
    assert "One of 1, 2, 3, 4, q" in sitting.stdout
    assert "Done: 2 reviewed, nothing more is due" in sitting.stdout
    assert "Nothing is due" in me("start").stdout


def test_leaving_a_sitting_keeps_what_was_answered(me: Me, file: Path) -> None:
    me("add", ELBO, KL)
    let_days_pass(file, 40)
    me("start", said="\n1\n\nq\n")
    assert json.loads(me("due", "--json").stdout)["due"] == [KL]


def test_what_cannot_be_reviewed_is_told(me: Me) -> None:
    assert me("add").returncode == 2
    assert me("rate", ELBO, "superb").returncode == 2
    assert me("rate", "no/such/topic/anywhere", "good").returncode == 1
