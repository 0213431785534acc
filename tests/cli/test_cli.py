import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.help import PAGE, page
from tests.cli.readme import BLOCK, README, comparable, renewed
from tests.conftest import ROOT, Genatlas, run_genatlas

GOLDEN = ROOT / "tests" / "ingest" / "golden" / "topics.tsv"


def refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """A user's mistake: exit code 1, the words on standard error, no traceback, nothing on standard output."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_stats_count_what_the_outline_holds(genatlas: Genatlas) -> None:
    stats = json.loads(genatlas("stats", "--json").stdout)
    assert (stats["topics"], stats["starred"], stats["sections"]) == (2063, 159, 12)


def test_the_export_has_the_golden_ids_and_2051_hierarchy_edges(genatlas: Genatlas) -> None:
    document = json.loads(genatlas("export", "--format", "json").stdout)
    with GOLDEN.open(encoding="utf-8") as file:
        golden = [row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    outline = {topic["id"] for topic in document["topics"] if topic["origin"] == "outline"}
    assert [topic["id"] for topic in document["topics"] if topic["origin"] == "outline"] == golden
    assert sum(edge["child"] in outline for edge in document["hierarchy"]) == 2051
    assert len(document["demonstrated_by"]) == len(document["topics"])


def test_search_finds_mode_collapse(genatlas: Genatlas) -> None:
    found = json.loads(genatlas("search", "mode collapse", "--json").stdout)
    assert (
        found["hits"][0]["topic"]
        == "generative-adversarial-networks/gan-fundamentals/training-challenges/mode-collapse"
    )
    assert found["hits"][0]["reasons"]
    assert not found["abstained"]


def test_search_keeps_to_a_section(genatlas: Genatlas) -> None:
    found = json.loads(genatlas("search", "loss", "--section", "variational-autoencoders", "--json").stdout)
    assert found["hits"]
    assert {hit["topic"].split("/")[0] for hit in found["hits"]} == {"variational-autoencoders"}


def test_ask_explains_the_reparameterization_trick_with_sources(genatlas: Genatlas) -> None:
    answer = json.loads(genatlas("ask", "what is the reparameterization trick", "--json").stdout)
    assert "ε" in answer["answer"]
    assert "gradient" in answer["answer"].lower()
    cited = {citation["topic"] for citation in answer["citations"]}
    assert "variational-autoencoders/vae-architecture/latent-space-latent-vector" in cited
    assert all(sentence["topic"] in cited for sentence in answer["sentences"])
    assert any(work["arxiv"] == "1312.6114" for citation in answer["citations"] for work in citation["references"])


def test_ask_says_when_it_does_not_know(genatlas: Genatlas) -> None:
    answer = json.loads(genatlas("ask", "how do I bake sourdough bread", "--json").stdout)
    assert answer["abstained"]
    assert answer["answer"] == ""


def test_path_never_breaks_a_prerequisite(genatlas: Genatlas) -> None:
    path = json.loads(genatlas("path", "variational-autoencoders/training-objectives", "--json").stdout)
    place = {step["topic"]: step["number"] for step in path["steps"]}
    assert len(place) > 3
    assert path["steps"][-1]["topic"] == "variational-autoencoders/training-objectives"
    for step in path["steps"]:
        assert all(place[reason["needed_by"]] > step["number"] for reason in step["reasons"])
        assert step["goal"] or step["reasons"]


def test_path_as_calendar_and_markdown(genatlas: Genatlas) -> None:
    goal = "variational-autoencoders/training-objectives"
    calendar = genatlas("path", goal, "--format", "ics", "--start", "2026-03-02").stdout
    assert calendar.startswith("BEGIN:VCALENDAR")
    assert "DTSTART:20260302T180000" in calendar
    assert genatlas("path", goal, "--format", "markdown", "--minutes", "30").stdout.startswith(
        "# Study path to Training"
    )


def test_compare_shows_each_side(genatlas: Genatlas) -> None:
    ends = ("variational-autoencoders", "generative-adversarial-networks")
    document = json.loads(genatlas("compare", *ends, "--json").stdout)
    assert set(ends) <= set(document["between"])
    assert all(len(aspect["values"]) == len(document["between"]) for aspect in document["aspects"])


def test_a_demo_runs_and_its_claims_hold(genatlas: Genatlas) -> None:
    outcome = json.loads(genatlas("demo", "run", "vae-digits", "--json").stdout)
    assert outcome["result"]["claims"]
    assert all(claim["holds"] for claim in outcome["result"]["claims"])
    assert outcome["params"]["latent_dim"] == 8


def test_a_demo_draws_its_figures_in_the_terminal_and_writes_the_result(genatlas: Genatlas, tmp_path: Path) -> None:
    done = genatlas("demo", "run", "gaussian-kl", "--param", "samples=2000", "--out", str(tmp_path / "kl.json"))
    assert done.returncode == 0
    assert "KL to the prior by sampling" in done.stdout
    assert json.loads((tmp_path / "kl.json").read_text())["params"]["samples"] == 2000


def test_demo_list_has_every_demo_and_each_can_be_run(genatlas: Genatlas) -> None:
    demos = json.loads(genatlas("demo", "list", "--json").stdout)
    assert len(demos) == 175
    assert [demo["id"] for demo in demos if not demo["ready"]] == []


def test_demo_show_prints_question_claims_parameters_and_topics(genatlas: Genatlas) -> None:
    shown = json.loads(genatlas("demo", "show", "gaussian-kl", "--json").stdout)
    assert {"dim", "samples", "direction", "estimator", "seed"} <= {each["name"] for each in shown["parameters"]}
    assert shown["claims"]
    assert "variational-autoencoders/training-objectives/kl-divergence" in {topic["topic"] for topic in shown["topics"]}
    assert "def run(" in genatlas("demo", "source", "gaussian-kl").stdout


def test_a_batch_answers_line_by_line(genatlas: Genatlas, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        '{"id": "1", "question": "what is the ELBO", "more": 1}\n\n{"id": "2", "question": "mode collapse"}\n'
    )
    rows = [json.loads(line) for line in genatlas("batch", "search", str(questions)).stdout.splitlines()]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[0]["ranked"][0] == "variational-autoencoders/training-objectives/elbo"
    assert len(rows[0]["ranked"]) <= 10
    assert rows[0]["ms"] > 0
    (asked,) = [json.loads(line) for line in genatlas("batch", "ask", str(questions)).stdout.splitlines()][:1]
    assert set(asked) == {"id", "ranked", "ms", "answer", "intent", "citations", "abstained"}


def test_a_batch_of_goals_gives_paths(genatlas: Genatlas, tmp_path: Path) -> None:
    goals = tmp_path / "goals.jsonl"
    goals.write_text('{"id": 7, "goal": "variational-autoencoders/training-objectives/elbo"}\n')
    (row,) = [json.loads(line) for line in genatlas("batch", "path", str(goals)).stdout.splitlines()]
    assert row["path"][-1] == row["goal"]


def test_a_bad_line_of_a_batch_is_told_with_its_number_and_the_rest_is_answered(
    genatlas: Genatlas, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "ELBO"}\nnonsense\n{"id": "3"}\n')
    done = genatlas("batch", "search", str(questions))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert f"{questions}:2: not a JSON object" in done.stderr
    assert f"{questions}:3:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("topic", "variational-autoencoders/training-objectives/elbow"), ("No topic", "Nearest", "/elbo")),
        (("path", "attention-mechnism"), ("No topic", "genatlas search")),
        (("demo", "show", "vae-digit"), ('No demo "vae-digit"', "vae-digits")),
        (("demo", "run", "vae-digits", "--param", "latent_dim=900"), ("between 1 and 32, got 900", "Nothing was run")),
        (("demo", "run", "vae-digits", "--param", "latents=3"), ("latents", "Nothing was run")),
        (("search", " "), ("The query is empty",)),
        (("search", "x" * 2000), ("at most 1,000",)),
        (("search", "x", "--section", "nonsense"), ("nonsense",)),
        (("compare", "bert", "foundations"), ("Nobody has compared",)),
        (("import", "nowhere.txt"), ("No file at nowhere.txt",)),
        (("build", "--corpus", "nowhere"), ("No corpus folder at nowhere",)),
        (("batch", "search", "nowhere.jsonl"), ("No file at nowhere.jsonl",)),
    ],
)
def test_a_mistake_is_one_clear_message(genatlas: Genatlas, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(genatlas(*arguments), *words)


def test_wrong_usage_exits_with_2(genatlas: Genatlas) -> None:
    for arguments in (
        ("search",),
        ("topic", "a", "b"),
        ("export", "--format", "docx"),
        ("path", "elbo", "--minutes", "1"),
    ):
        assert genatlas(*arguments).returncode == 2


def test_before_the_first_build_the_way_out_is_told(tmp_path: Path) -> None:
    for command in (("search", "gan"), ("stats",), ("ui",)):
        refused(run_genatlas(*command, home=tmp_path / "empty"), "No atlas has been built", "genatlas build")


def test_a_broken_outline_and_broken_content_name_file_and_line_and_build_nothing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "topics" / "a").mkdir(parents=True)
    (corpus / "outline.txt").write_text("## A\n├── B\n│   │   └── C\n")
    home = tmp_path / "home"
    refused(run_genatlas("check", "--corpus", str(corpus), home=home), "outline.txt:3: a skipped level")
    (corpus / "outline.txt").write_text("## A\n├── B\n")
    (corpus / "topics" / "a" / "b.yaml").write_text("- id: a/b\n  sumary: x\n  minutes: soon\n")
    done = run_genatlas("check", "--corpus", str(corpus), home=home)
    refused(done, "topics/a/b.yaml:2: unknown key", 'did you mean "summary"?', "topics/a/b.yaml:3: minutes")
    built = run_genatlas("build", "--corpus", str(corpus), home=home)
    assert built.returncode == 1
    assert "2 problems; nothing was changed." in built.stderr
    assert "Traceback" not in built.stderr
    assert not (home / "current").exists()


def test_a_damaged_snapshot_and_a_missing_index_are_told(built_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built_home / "snapshots", home / "snapshots")
    shutil.copy(built_home / "current", home / "current")
    (home / "models").symlink_to(built_home / "models")
    folder = home / "snapshots" / (home / "current").read_text().strip()
    passages = folder / "passages.json"
    passages.write_bytes(passages.read_bytes().replace(b"the", b"teh", 1))
    refused(run_genatlas("search", "gan", home=home), "passages.json does not match its manifest", "genatlas build")
    (folder / "vectors.faiss").unlink()
    refused(run_genatlas("search", "gan", home=home), "genatlas build")
    (folder / "atlas.json").unlink()
    refused(run_genatlas("topic", "bert", home=home), "atlas.json is missing", "genatlas build")


def test_doctor_finds_this_installation_in_order_and_an_empty_one_not(genatlas: Genatlas, tmp_path: Path) -> None:
    findings = json.loads(genatlas("doctor", "--json").stdout)
    assert all(finding["ok"] for finding in findings), findings
    empty = run_genatlas("doctor", home=tmp_path / "empty")
    assert empty.returncode == 1
    assert "No atlas has been built" in empty.stdout
    assert "Traceback" not in empty.stdout + empty.stderr


def test_a_search_loads_neither_torch_nor_streamlit_nor_pydantic_models_of_the_corpus(built_home: Path) -> None:
    program = (
        "import sys; sys.argv = ['genatlas', 'search', 'mode collapse', '--json']\n"
        "from ui.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'streamlit', 'neo4j', 'transformers', 'sentence_transformers'}\n"
        "found = (heavy | {'networkx', 'yaml', 'ingest.schema'}) & set(sys.modules)\n"
        "assert not found, found\n"
    )
    environment = os.environ | {"GENATLAS_HOME": str(built_home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_of_commands_is_what_help_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_readme_shows_what_its_commands_print(built_home: Path) -> None:
    text = README.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) >= 3
    assert comparable(text) == comparable(renewed(text, built_home))


def test_eval_measures_judged_questions_and_lists_what_missed(genatlas: Genatlas, tmp_path: Path) -> None:
    elbo = "variational-autoencoders/training-objectives/elbo"
    rows = [
        {"id": "g1", "question": "what is the ELBO", "intent": "definition", "relevant": {elbo: 2}},
        {"id": "g2", "question": "what is mode collapse", "intent": "definition", "relevant": {elbo: 1}},
        {"id": "f1", "question": "how long do I boil an egg", "kind": "far"},
    ]
    file, page = tmp_path / "judged.jsonl", tmp_path / "misses.md"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    measured = json.loads(genatlas("eval", str(file), "--misses", str(page), "--json").stdout)
    assert measured["graded"]["overall"]["hit@1"]["mean"] == 0.5
    assert measured["graded"]["variational-autoencoders"]["hit@1"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert measured["abstained"]["far"]["mean"] == 1.0
    assert measured["separation"] == 1.0
    missed = page.read_text(encoding="utf-8")
    assert "## g2: what is mode collapse" in missed
    assert "## g1" not in missed
    file.write_text('{"id": "x", "question": "?"}\n', encoding="utf-8")
    refused(genatlas("eval", str(file)), f"{file}:1: ", "one judgement")
