from pathlib import Path

import pytest

from graph import TopicNotFound
from service import NothingCompared, Service, Settings, SettingsInvalid, open_service, user_message
from service.wire import cite


@pytest.fixture(scope="module")
def service(built_home: Path) -> Service:
    return open_service(Settings(home=built_home))


def test_a_topic_is_found_by_its_id(service: Service) -> None:
    found = service.find_topic("variational-autoencoders/training-objectives/elbo")
    assert (found.topic.title, found.how) == ("ELBO (Evidence Lower Bound)", "id")


def test_a_topic_is_found_by_the_end_of_its_id(service: Service) -> None:
    found = service.find_topic("training-objectives/elbo")
    assert (found.topic.id, found.how) == ("variational-autoencoders/training-objectives/elbo", "suffix")


def test_where_several_ids_end_alike_the_others_are_named(service: Service) -> None:
    found = service.find_topic("kl-divergence")
    assert found.how == "suffix"
    assert len(found.others) >= 2
    assert all(other.endswith("/kl-divergence") for other in found.others)


def test_a_topic_is_found_by_words(service: Service) -> None:
    found = service.find_topic("evidence lower bound")
    assert (found.topic.id, found.how) == ("variational-autoencoders/training-objectives/elbo", "words")


@pytest.mark.parametrize("name", ["variational-autoencoders/training-objectives/elbow", "attention-mechnism"])
def test_a_mistyped_id_is_an_error_that_names_the_nearest(service: Service, name: str) -> None:
    with pytest.raises(TopicNotFound) as caught:
        service.find_topic(name)
    assert caught.value.nearest


def test_a_comparison_is_found_from_both_sides(service: Service) -> None:
    comparison = service.store.comparisons("variational-autoencoders/training-objectives/kl-divergence")[0]
    one, other = comparison.between[:2]
    assert service.compare(one, other) == service.compare(other, one) == comparison


def test_topics_that_nobody_compared_are_told_so(service: Service) -> None:
    with pytest.raises(NothingCompared, match="Nobody has compared"):
        service.compare("bert", "foundations")


def test_stats_count_the_outline_and_the_foundations_apart(service: Service) -> None:
    stats = service.stats()
    assert (stats["topics"], stats["starred"], stats["sections"], stats["hierarchy"]) == (2063, 159, 12, 2051)
    assert stats["foundations"] == sum(topic.origin == "foundation" for topic in service.store.topics())
    assert sum(row["topics"] for row in stats["by_section"]) == len(service.store.topics())


def test_every_demo_of_the_shipped_atlas_serves_topics_and_can_be_run(service: Service) -> None:
    infos = service.demos()
    assert len(infos) == 175
    assert [info.demo.id for info in infos if not info.ready or not info.topics] == []


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENATLAS_PRECISION", "int4")
    with pytest.raises(SettingsInvalid, match="precision: Input should be 'int8' or 'fp32'"):
        Settings.read()


def test_settings_come_from_the_file_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "genatlas.toml").write_text('precision = "fp32"\ndemo_seconds = 7\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENATLAS_PRECISION", raising=False)
    assert (Settings.read().precision, Settings.read().demo_seconds) == ("fp32", 7)
    monkeypatch.setenv("GENATLAS_PRECISION", "int8")
    assert Settings.read().precision == "int8"


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`GENATLAS_{name.upper()}`" in page


def test_a_bug_has_no_message_for_users() -> None:
    assert user_message(KeyError("x")) is None
    assert user_message(TopicNotFound("x")) is not None


def test_a_citation_reads_as_one_writes_it(service: Service) -> None:
    (work,) = service.references(["kingma2013auto"])
    assert cite(work) == "Kingma and Welling (2013), Auto-Encoding Variational Bayes."
