"""Small atlases for tests: one written by hand with every kind of edge, and a strategy that draws random ones."""

from hypothesis import strategies as st

from graph import (
    Aspect,
    Atlas,
    Comparison,
    ConceptGroup,
    Demo,
    DemoLink,
    NeighbouringField,
    Prerequisite,
    Reference,
    Topic,
)


def topic(topic_id: str, position: int, minutes: int | None = None, demo: DemoLink | None = None) -> Topic:
    """A topic whose title is the last part of its id."""
    parts = topic_id.split("/")
    titles = tuple(part.replace("-", " ").title() for part in parts)
    parent = "/".join(parts[:-1]) or None
    return Topic(topic_id, titles[-1], titles, position, len(parts) - 1, parent, minutes=minutes, demo=demo)


def atlas_of(ids: list[str], *edges: Prerequisite, **parts: object) -> Atlas:
    """An atlas of these topics, in this order, with these edges and further parts."""
    topics = tuple(topic(topic_id, position) for position, topic_id in enumerate(ids))
    return Atlas("Test", topics, tuple(edges), **parts)  # pyright: ignore[reportArgumentType] (parts by field name)


ATLAS = Atlas(
    title="Test",
    topics=(
        topic("gan", 0),
        topic("gan/dcgan", 1, demo=DemoLink("gan-demo", "The loss.", {"steps": 5})),
        topic("gan/wgan", 2, minutes=30, demo=DemoLink("gan-demo", "The critic.")),
        topic("gan/wgan/loss", 3, minutes=10),
        topic("gan/wgan/clipping", 4),
        topic("vae", 5),
        topic("vae/loss", 6, minutes=20),
        topic("transport", 7, minutes=15),
        topic("transport/distance", 8),
    ),
    prerequisites=(
        Prerequisite("transport", "gan/wgan", "The critic estimates a transport cost."),
        Prerequisite("gan/dcgan", "gan/wgan/loss", "The networks are a DCGAN's."),
        Prerequisite("vae/loss", "gan/wgan/loss", "Compares with a likelihood bound.", strength="helpful"),
        Prerequisite("gan/wgan/loss", "vae", "An odd edge, to make a chain.", depth="gist"),
    ),
    comparisons=(
        Comparison(
            id="dcgan-wgan",
            between=("gan/dcgan", "gan/wgan"),
            question="Which trains more steadily?",
            aspects=(Aspect("objective", ("cross-entropy", "transport cost")),),
            same="Both play two networks against each other.",
            choose="WGAN where training is unsteady.",
            refs=("arjovsky2017",),
        ),
    ),
    concepts=(ConceptGroup(("transport/distance", "gan/wgan/clipping")),),
    references=(Reference("arjovsky2017", "Wasserstein GAN", ("Martin Arjovsky",), 2017, arxiv="1701.07875"),),
    boundary=(NeighbouringField("Cooking", ("how long do I boil an egg",)),),
    demos=(Demo("gan-demo", "A GAN", "What does the critic measure?"), Demo("aaa", "Another", "Why?")),
)


@st.composite
def atlases(draw: st.DrawFn, topics_at_most: int = 14) -> Atlas:
    """Random valid atlases: a random tree, and prerequisites that point from earlier subtrees to later ones only.

    Edges run between different sections, from a lower to a higher one, so that neither an own nor an inherited edge can
    close a cycle; some are helpful, some come as either-or groups, and some topics are twins of an earlier section's.
    """
    ids: list[str] = []
    for number in range(draw(st.integers(1, topics_at_most))):
        parents = [None, *ids]
        parent = draw(st.sampled_from(parents))
        ids.append(f"t{number}" if parent is None else f"{parent}/t{number}")
    ordered = _outline_order(ids)
    section = {topic_id: int(topic_id.split("/")[0][1:]) for topic_id in ids}
    pairs = [(a, b) for a in ids for b in ids if section[a] < section[b]]
    edges: list[Prerequisite] = []
    if pairs:
        for before, after in draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)):
            group = draw(st.sampled_from([None, None, f"{after}#1"]))
            strength = draw(st.sampled_from(["needed", "needed", "helpful"] if group is None else ["needed"]))
            minutes = f"{after} uses {before}."
            edges.append(Prerequisite(before, after, minutes, strength, group=group))  # pyright: ignore[reportArgumentType]
    topics = tuple(topic(each, position, minutes=5 + position) for position, each in enumerate(ordered))
    twins = draw(st.lists(st.sampled_from(ids), unique=True, max_size=4))
    concepts = (ConceptGroup(tuple(twins)),) if len(twins) > 1 else ()
    return Atlas("Random", topics, tuple(edges), concepts=concepts)


def _outline_order(ids: list[str]) -> list[str]:
    """Ids in depth-first order, siblings as they were drawn."""
    return [
        each
        for root in ids
        if "/" not in root
        for each in [root, *sorted((i for i in ids if i.startswith(f"{root}/")), key=lambda i: _key(i, ids))]
    ]


def _key(topic_id: str, ids: list[str]) -> list[int]:
    parts = topic_id.split("/")
    return [ids.index("/".join(parts[: length + 1])) for length in range(len(parts))]
