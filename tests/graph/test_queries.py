from graph import Link, NetworkXStore, neighbourhood, transitive_prerequisites
from tests.graph.atlases import ATLAS

STORE = NetworkXStore(ATLAS)


def test_one_step_shows_prerequisites_of_the_ancestors_as_the_centres_own() -> None:
    picture = neighbourhood(STORE, "gan/wgan/loss", kinds=["prerequisite"])
    assert picture.topics[0].id == "gan/wgan/loss"
    assert Link("transport", "gan/wgan/loss", "prerequisite") in picture.links
    assert {topic.id for topic in picture.topics[1:]} == {"gan/dcgan", "vae/loss", "transport", "vae"}


def test_only_the_chosen_kinds_of_edge_are_followed() -> None:
    picture = neighbourhood(STORE, "gan/wgan", kinds=["hierarchy"])
    assert {topic.id for topic in picture.topics} == {"gan/wgan", "gan", "gan/wgan/loss", "gan/wgan/clipping"}
    assert {link.kind for link in picture.links} == {"hierarchy"}


def test_links_between_two_neighbours_belong_to_the_picture() -> None:
    picture = neighbourhood(STORE, "gan", kinds=["hierarchy", "comparison"])
    assert Link("gan/dcgan", "gan/wgan", "comparison") in picture.links


def test_two_steps_reach_the_neighbours_neighbours() -> None:
    once = neighbourhood(STORE, "transport", kinds=["prerequisite"])
    twice = neighbourhood(STORE, "transport", kinds=["prerequisite", "hierarchy"], steps=2)
    assert "gan/wgan/loss" not in {topic.id for topic in once.topics}
    assert "gan/wgan/loss" in {topic.id for topic in twice.topics}


def test_a_limit_keeps_the_centre_counts_the_rest_and_leaves_no_dangling_link() -> None:
    picture = neighbourhood(STORE, "gan/wgan", steps=2, limit=3)
    whole = neighbourhood(STORE, "gan/wgan", steps=2)
    names = {topic.id for topic in picture.topics}
    assert len(picture.topics) == 3
    assert picture.topics[0].id == "gan/wgan"
    assert picture.omitted == len(whole.topics) - 3
    assert all(link.source in names and link.target in names for link in picture.links)


def test_a_comparison_and_a_twin_are_one_link_each_from_whichever_side() -> None:
    from_one = neighbourhood(STORE, "gan/dcgan", kinds=["comparison"]).links
    from_other = neighbourhood(STORE, "gan/wgan", kinds=["comparison"]).links
    assert from_one == from_other == (Link("gan/dcgan", "gan/wgan", "comparison"),)


def test_transitive_prerequisites_follow_needed_edges_to_the_floor() -> None:
    befores = [edge.before for edge in transitive_prerequisites(STORE, "vae/loss")]
    assert befores == ["gan/wgan/loss", "gan/dcgan", "transport"]


def test_helpful_edges_count_when_asked_for() -> None:
    befores = [edge.before for edge in transitive_prerequisites(STORE, "gan/wgan/loss", helpful=True)]
    assert "vae/loss" in befores
    assert "vae/loss" not in [edge.before for edge in transitive_prerequisites(STORE, "gan/wgan/loss")]
