"""The registry reads demos without running them."""

import shutil
from pathlib import Path

import pytest
import yaml

import demos
from demos.registry import FAMILIES, catalogue, find_demo

SAMPLES = Path(__file__).parent / "sample_demos"
CORPUS = Path(__file__).parents[2] / "corpus"
GOOD = '''"""A title

Question: What?
Source: Somebody.
Watch: the number.
"""
claims = [Claim("One is one", one, "==", 1.0)]
'''


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_demo_is_described_by_its_file() -> None:
    spec = catalogue(SAMPLES)["counts"]
    assert (spec.id, spec.family, spec.title) == ("counts", "faults", "Counts to a number")
    assert spec.question == "Does progress reach the caller in order?"
    assert spec.watch == "the curve of counts, which is a straight line."
    assert [(claim.statement, claim.relation, claim.bound) for claim in spec.claims] == [
        ("It counts to the end", "==", 1.0)
    ]
    assert spec.code.startswith('"""Counts to a number')


def test_every_demo_of_the_library_is_known_to_the_corpus_under_the_same_title_and_question() -> None:
    known = {entry["id"]: entry for entry in yaml.safe_load((CORPUS / "demos.yaml").read_text(encoding="utf-8"))}
    for spec in catalogue().values():
        assert spec.family in FAMILIES
        assert (spec.title, spec.question) == (known[spec.id]["title"], known[spec.id]["question"])


def test_demos_come_in_the_order_of_families(tmp_path: Path) -> None:
    for name in ("gpt/b.py", "vaes/c_d.py", "own/e.py", "gpt/a.py", "vaes/__init__.py"):
        write(tmp_path, name, GOOD if "__init__" not in name else "")
    assert [spec.id for spec in catalogue(tmp_path).values()] == ["c-d", "a", "b", "e"]


def test_every_problem_of_every_file_is_reported_at_its_line(tmp_path: Path) -> None:
    no_source = write(tmp_path, "vaes/a.py", GOOD.replace("Source: Somebody.\n", ""))
    variable = write(tmp_path, "vaes/b.py", GOOD + 'claims.append(Claim(f"One is {one}", one, "==", limit))\n')
    relation = write(tmp_path, "vaes/c.py", GOOD.replace('"=="', '"~="'))
    broken = write(tmp_path, "vaes/d.py", GOOD + "def:\n")
    silent = write(tmp_path, "vaes/e.py", '"""A title"""\n')
    positional = write(tmp_path, "vaes/f.py", GOOD.replace('one, "==", 1.0', '"==", one, 1.0'))
    with pytest.raises(demos.BadDemoFile) as caught:
        catalogue(tmp_path)
    text = str(caught.value)
    assert f'{no_source}:1: the docstring has no "Source:" line' in text
    assert f"{variable}:8: write the claim's statement as a literal" in text
    assert f"{variable}:8: write the claim's bound as a literal" in text
    assert f"{relation}:7: '~=' is none of <= >= < > ==" in text
    assert f"{broken}:8: not Python" in text
    assert f"{silent}: no Claim(...) in it" in text
    assert f"{positional}:7: write the claim's relation as a literal" in text


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "vaes/a.py", GOOD)
    write(tmp_path, "gpt/a.py", GOOD)
    with pytest.raises(demos.BadDemoFile, match="a demo of the same id"):
        catalogue(tmp_path)


def test_the_code_hash_covers_the_demo_the_contract_and_what_it_imports_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "demos"
    shutil.copytree(Path(demos.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("demos.registry.DEMOS", library)

    def hashes() -> dict[str, str]:
        return {name: find_demo(name, library).code_hash for name in ("gaussian-kl", "forward-diffusion")}

    def changed(file: str) -> set[str]:
        before = hashes()
        with (library / file).open("a", encoding="utf-8") as code:
            code.write("\n# changed\n")
        after = hashes()
        return {name for name in before if before[name] != after[name]}

    assert changed("vaes/gaussian_kl.py") == {"gaussian-kl"}
    assert changed("shared/digits.py") == {"forward-diffusion"}
    assert changed("contract.py") == {"gaussian-kl", "forward-diffusion"}
    assert changed("runner.py") == set()


def test_an_unknown_demo_names_those_that_read_like_it() -> None:
    with pytest.raises(demos.DemoNotFound) as caught:
        find_demo("gausian-kl")
    assert caught.value.nearest[0] == "gaussian-kl"
    with pytest.raises(demos.DemoNotFound, match=r'No demo "xyzzy"\. All demos: genatlas demo list'):
        find_demo("xyzzy")
