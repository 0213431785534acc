"""Paths over the shipped atlas: every topic can be reached, and the floor comes first."""

from itertools import pairwise

import pytest

from graph import NetworkXStore
from ingest import read_corpus
from study import plan_path
from tests.ingest.folders import ROOT


@pytest.fixture(scope="module")
def store() -> NetworkXStore:
    return NetworkXStore(read_corpus(ROOT / "corpus"))


@pytest.mark.parametrize("thorough", [False, True])
def test_every_topic_can_be_reached(store: NetworkXStore, thorough: bool) -> None:
    for topic in store.topics():
        path = plan_path(store, [topic.id], thorough=thorough)
        assert topic.id in {step.topic.id for step in path.steps}


@pytest.mark.parametrize(
    ("goal", "through"),
    [
        (
            "generative-adversarial-networks/advanced-gan-architectures/wasserstein-gan",
            ["foundations/probability/optimal-transport", "foundations/calculus-and-optimization/lipschitz-continuity"],
        ),
        (
            "stable-diffusion/latent-diffusion-model-concept",
            [
                "variational-autoencoders/vae-architecture/encoder-network",
                "diffusion-models/reverse-denoising-process/neural-network-implementation/u-net-architecture",
                "diffusion-models/training-process/loss-functions/noise-prediction-loss",
                "transformer-architecture/attention-mechanism/cross-attention",
            ],
        ),
        (
            "deepseek-models/deepseek-v3/key-architectural-components/multi-head-latent-attention",
            [
                "transformer-architecture/multi-head-attention/architecture",
                "transformer-architecture/input-representation/positional-encoding/relative-positional-encoding",
            ],
        ),
        (
            "gpt-family/rlhf",
            ["foundations/statistical-learning/policy-gradients", "foundations/information-theory/kl-divergence"],
        ),
        (
            "vision-transformers/vit-architecture",
            [
                "transformer-architecture/encoder-architecture/single-encoder-layer",
                "transformer-architecture/attention-mechanism/self-attention/scaled-dot-product-attention",
            ],
        ),
        (
            "bert",
            [
                "transformer-architecture/attention-mechanism/self-attention/scaled-dot-product-attention",
                "foundations/information-theory/cross-entropy",
            ],
        ),
    ],
)
def test_a_path_leads_through_what_the_goal_stands_on(store: NetworkXStore, goal: str, through: list[str]) -> None:
    steps = [step.topic.id for step in plan_path(store, [goal]).steps]
    places = [{topic, *(twin.id for twin in store.twins(topic))} for topic in through]
    assert [topic for topic, place in zip(through, places, strict=True) if not place & set(steps)] == []


TWENTY = [
    "generative-adversarial-networks/advanced-gan-architectures/wasserstein-gan",
    "stable-diffusion/latent-diffusion-model-concept",
    "deepseek-models/deepseek-v3/key-architectural-components/multi-head-latent-attention",
    "gpt-family/rlhf",
    "vision-transformers/vit-architecture",
    "bert/fine-tuning-bert",
    "diffusion-models/sampling-generation-process/sampling-speed-issues/ddim",
    "stable-diffusion/applications-and-extensions/controlnet",
    "generative-adversarial-networks/advanced-gan-architectures/stylegan",
    "generative-adversarial-networks/advanced-gan-architectures/cyclegan",
    "variational-autoencoders/training-objectives/elbo",
    "diffusion-models/advanced-diffusion-concepts/classifier-free-guidance",
    "gpt-family/gpt-model-evolution/gpt-4/mixture-of-experts-architecture",
    "vision-transformers/hybrid-architectures/swin-transformer",
    "stable-diffusion/applications-and-extensions/lora",
    "deepseek-models/deepseek-r1",
    "stable-diffusion",
    "bert",
    "large-language-models",
    "transformer-architecture",
]


@pytest.mark.parametrize(("thorough", "most"), [(False, 4), (True, 9)])
def test_a_path_seldom_changes_between_sections(store: NetworkXStore, thorough: bool, most: int) -> None:
    """Foundations aside. Depth first it was up to 13 changes, and up to 48 with all subtopics."""
    for goal in TWENTY:
        sections = [
            step.topic.section
            for step in plan_path(store, [goal], thorough=thorough).steps
            if step.topic.origin == "outline"
        ]
        assert sum(one != other for one, other in pairwise(sections)) <= most, goal


def test_a_foundation_stands_within_a_few_steps_of_its_first_use(store: NetworkXStore) -> None:
    for goal in TWENTY:
        steps = plan_path(store, [goal]).steps
        place = {step.topic.id: step.number for step in steps}
        waits = [
            min(place[reason.needed_by] for reason in step.reasons) - step.number
            for step in steps
            if step.topic.origin == "foundation" and step.reasons
        ]
        assert sum(waits) <= 2 * len(waits), goal


def test_a_path_starts_on_the_floor(store: NetworkXStore) -> None:
    """The first step of a path to anything needs nothing itself."""
    for goal in ("stable-diffusion", "deepseek-models/deepseek-r1", "bert/fine-tuning-bert"):
        first = plan_path(store, [goal]).steps[0].topic
        needed = [edge for edge in store.effective_prerequisites(first.id) if edge.strength == "needed"]
        assert needed == [], goal
