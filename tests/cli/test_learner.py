"""Profiles, marks and notes on the command line; each test has a database of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import Genatlas

Me = Callable[..., "CompletedProcess[str]"]
RLHF = "gpt-family/rlhf"
KL = "foundations/information-theory/kl-divergence"
ELBO = "variational-autoencoders/training-objectives/elbo"


@pytest.fixture
def me(genatlas: Genatlas, tmp_path: Path) -> Me:
    """The command line with progress in a file of the test's own."""
    url = f"sqlite:///{tmp_path}/progress.db"
    return lambda *arguments, **environment: genatlas(*arguments, GENATLAS_PROGRESS_URL=url, **environment)


def test_the_first_mark_begins_the_profile_and_show_lists_what_is_kept(me: Me) -> None:
    assert "There is no profile yet" in me("profile", "list").stdout
    assert me("mark", "known", "elbo", KL).stdout == f"{ELBO}: known\n{KL}: known\n"
    me("mark", "planned", RLHF)
    me("note", "elbo", "the gap is a KL")
    shown = me("profile", "show").stdout
    assert shown.index("Known") < shown.index(ELBO) < shown.index("Planned") < shown.index(RLHF)
    assert "the gap is a KL" in shown
    (profile,) = json.loads(me("profile", "list", "--json").stdout)
    assert (profile["name"], profile["known"], profile["planned"]) == ("me", 2, 1)
    assert "planned" in me("profile", "show", "--history").stdout.splitlines()[1]


def test_a_path_leaves_out_what_a_profile_knows_and_only_when_asked(me: Me) -> None:
    me("mark", "known", KL)
    whole = {step["topic"] for step in json.loads(me("path", RLHF, "--json").stdout)["steps"]}
    mine = {step["topic"] for step in json.loads(me("path", RLHF, "--profile", "me", "--json").stdout)["steps"]}
    assert KL in whole - mine
    assert json.loads(me("path", RLHF, "--known", KL, "--json").stdout)["known"] == [KL]
    assert "counts as known" in me("why", KL, RLHF, "--profile", "me").stderr
    assert "counts as known" in me("skip", KL, RLHF, "--profile", "me").stderr
    ready = json.loads(me("ready", "--goal", RLHF, "--profile", "me", "--json").stdout)
    assert KL not in {each["topic"] for each in ready}


def test_a_mark_is_taken_off_and_a_note_deleted(me: Me) -> None:
    me("mark", "learning", "elbo")
    assert me("mark", "nothing", "elbo").stdout == f"{ELBO}: no mark\n"
    me("note", "elbo", "words")
    assert me("note", "elbo").stdout == "words\n"
    assert "No note" in me("note", "elbo", "").stdout
    assert "Nothing is kept here yet" in me("profile", "show").stdout


def test_a_profile_of_another_name_is_made_on_purpose_only(me: Me) -> None:
    me("mark", "known", "elbo")
    refused = me("mark", "known", "elbo", "--profile", "mee")
    assert refused.returncode == 1
    assert 'No profile "mee". Nearest: me.' in refused.stderr
    me("profile", "new", "ann")
    me("mark", "learning", "elbo", GENATLAS_PROFILE="ann")
    assert json.loads(me("profile", "show", "ann", "--json").stdout)["marks"][ELBO]["status"] == "learning"
    assert me("profile", "new", "ann").returncode == 1


def test_a_profile_is_exported_deleted_and_read_back(me: Me, tmp_path: Path) -> None:
    me("mark", "known", "elbo")
    me("note", "elbo", "ζ")
    file = tmp_path / "me.json"
    me("profile", "export", "me", "-o", str(file))
    assert me("profile", "delete", "me").returncode == 1, "no answer is no yes"
    me("profile", "delete", "me", "--yes")
    assert json.loads(me("profile", "list", "--json").stdout) == []
    me("profile", "import", str(file))
    assert json.loads(me("profile", "show", "--json").stdout)["notes"] == {ELBO: "ζ"}
    assert me("profile", "import", str(file)).returncode == 1
    assert me("profile", "import", str(file), "--as", "copy").returncode == 0
    refused = me("profile", "import", __file__)
    assert refused.returncode == 1
    assert "no exported progress" in refused.stderr


def test_a_topic_that_the_atlas_has_no_longer_is_kept_and_shown_as_such(me: Me, tmp_path: Path) -> None:
    me("mark", "known", KL)
    file = tmp_path / "me.json"
    exported = me("profile", "export", "me").stdout
    file.write_text(exported.replace(KL, "foundations/old-topic"), encoding="utf-8")
    me("profile", "import", str(file), "--as", "old")
    shown = me("profile", "show", "old").stdout
    assert "foundations/old-topic  no longer in the atlas" in shown
    assert json.loads(me("profile", "show", "old", "--json").stdout)["gone"] == ["foundations/old-topic"]
    assert me("path", RLHF, "--profile", "old").returncode == 0
    me("mark", "nothing", "foundations/old-topic", "--profile", "old")
    assert json.loads(me("profile", "show", "old", "--json").stdout)["gone"] == []


def test_an_unreadable_database_is_one_clear_message(genatlas: Genatlas, tmp_path: Path) -> None:
    (tmp_path / "progress.db").write_bytes(b"no pages of SQLite " * 300)
    done = genatlas("profile", "list", GENATLAS_PROGRESS_URL=f"sqlite:///{tmp_path}/progress.db")
    assert done.returncode == 1
    assert "cannot be read as learners' progress" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_without_a_profile_loads_no_database(genatlas: Genatlas) -> None:
    done = genatlas("path", RLHF, GENATLAS_PROGRESS_URL="nonsense")
    assert done.returncode == 0


VAE = "variational-autoencoders"
PLAN = ("--answer", f"{ELBO}=yes", "--answer", f"{VAE}/training-objectives=yes")


def test_a_placement_asks_at_most_twelve_and_keeps_told_and_inferred_apart(me: Me) -> None:
    sitting = me("place", VAE, "--keep", said="y\n" * 12)
    assert sitting.returncode == 0
    assert 1 <= sitting.stdout.count("Could you answer that?") <= 12
    assert "Kept." in sitting.stderr
    marks = json.loads(me("profile", "show", "--json").stdout)["marks"]
    told = {each for each, mark in marks.items() if mark["origin"] == "told"}
    inferred = {each for each, mark in marks.items() if mark["origin"] == "inferred"}
    assert len(told) == sitting.stdout.count("Could you answer that?")
    assert inferred
    assert all(marks[each]["probability"] is not None for each in inferred)
    shown = me("profile", "show").stdout
    assert shown.index("Known, it seems") > max(shown.index(each) for each in told)
    path = json.loads(me("path", VAE, "--profile", "me", "--json").stdout)
    assert set(path["known"]) == told | inferred
    assert not {step["topic"] for step in path["steps"]} & (told | inferred)
    assert f"{len(inferred)} inferred marks are off" in me("place", VAE, "--forget").stderr
    assert set(json.loads(me("profile", "show", "--json").stdout)["marks"]) == told


def test_answers_given_beforehand_are_not_asked_for(me: Me) -> None:
    found = json.loads(me("place", VAE, *PLAN, "--json").stdout)
    assert found["told"] == {ELBO: True, f"{VAE}/training-objectives": True}
    assert found["left"] == 10
    assert found["ask"]["topic"] not in found["told"]
    assert found["ask"]["question"]
    assert set(found["inferred"]) <= set(found["chances"])
    assert json.loads(me("profile", "list", "--json").stdout) == [], "nothing is kept unless it is asked for"
    me("place", VAE, *PLAN, "--json", "--keep")
    marks = json.loads(me("profile", "show", "--json").stdout)["marks"]
    assert {each for each, mark in marks.items() if mark["origin"] == "told"} == set(found["told"])
    assert {each for each, mark in marks.items() if mark["origin"] == "inferred"} == set(found["inferred"])


def test_an_answer_can_be_taken_back_and_a_sitting_left(me: Me) -> None:
    sitting = me("place", VAE, said="y\nb\nn\nq\nn\n").stdout
    questions = [line for line in sitting.splitlines() if line.endswith("left at most")]
    assert questions[0] == questions[2], "the same question again"
    assert "1 asked: 0 known as you say" in sitting
    assert json.loads(me("profile", "list", "--json").stdout) == []


def test_an_answer_that_is_neither_yes_nor_no_is_refused(me: Me) -> None:
    for wrong in ("elbo=perhaps", "elbo", "=yes"):
        refused = me("place", VAE, "--answer", wrong)
        assert refused.returncode == 2
        assert "TOPIC=yes or TOPIC=no" in refused.stderr
