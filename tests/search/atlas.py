# ruff: noqa: E501 (a text stands on one line)
"""A small atlas with real texts: every kind of passage, twins, a comparison, prerequisites and topics without text."""

from graph import Aspect, Atlas, Comparison, ConceptGroup, Demo, DemoLink, Prerequisite, Reference, Topic

_ROWS: list[tuple[str, str, dict[str, object]]] = [
    ("gan", "Generative Adversarial Networks (GANs)", {"summary": "A GAN trains a generator and a discriminator against each other. The generator learns to make samples that the discriminator cannot tell from data."}),
    ("gan/challenges", "Training Challenges", {}),
    ("gan/challenges/mode-collapse", "Mode Collapse", {
        "level": "intermediate",
        "summary": "Mode collapse is the failure in which the generator makes a few kinds of sample only, whatever noise it is given. It happens because the generator is rewarded for fooling the current discriminator, not for covering the data. Minibatch discrimination and a Wasserstein loss make it rarer.",
        "questions": ("my generator makes the same face for every noise vector",),
        "misconception": "A low generator loss does not show that modes are covered. Count the modes among the samples.",
        "demo": DemoLink("gan-mode-collapse", "Count the modes that survive"),
        "refs": ("goodfellow2014",),
    }),
    ("gan/evaluation", "Evaluation", {}),
    ("gan/evaluation/fid", "Fréchet Inception Distance (FID)", {"starred": True, "level": "advanced"}),
    ("vae", "Variational Autoencoders (VAEs)", {"level": "intermediate", "summary": "A VAE is an autoencoder whose code is drawn from a distribution. It is trained by the evidence lower bound."}),
    ("vae/elbo", "Evidence Lower Bound", {
        "level": "advanced",
        "summary": "The evidence lower bound is what a VAE maximises in place of the likelihood. It is the expected reconstruction term minus the KL divergence between the posterior and the prior. Its gap to log p(x) is the KL divergence to the true posterior.",
        "detail": "**The derivation.** Start from Bayes' rule, i.e. $p(x) = p(x, z) / p(z | x)$. Take the expectation under $q$ of its logarithm:\n\n$$\\log p(x) = E_q[\\log p(x, z) / q(z)] + KL(q \\| p(z|x))$$\n\nThe last term is never negative. Dropping it gives the bound, which is tight for the true posterior, e.g. in Fig. 2 of the paper.\n\n**In code.** A batch of 128 images has a mean of about 100.5 nats.\n\n```python\nloss = rec + kl\n```",
        "formula": "E_q[\\log p(x|z)] - KL(q \\| p)",
        "aliases": ("variational lower bound", "ELBO"),
        "refs": ("kingma2013",),
    }),
    ("vae/latent", "Latent Vector", {
        "summary": "The latent vector z is the code of an input. It is computed as mean plus deviation times noise, which is the pathwise gradient estimator. So gradients reach the encoder through the sampling step.",
        "refs": ("kingma2013",),
    }),
    ("vae/losses", "Loss Terms", {}),
    ("vae/losses/reconstruction", "Reconstruction Loss", {"summary": "The reconstruction loss says how badly the decoder explains the input. For Gaussian pixels it is a squared error."}),
    ("vae/losses/kl", "KL Divergence", {"summary": "The KL term keeps the code distribution near the prior. It has a closed form for Gaussians."}),
    ("diffusion", "Diffusion Models", {}),
    ("diffusion/forward", "Forward Process", {"summary": "The forward process adds Gaussian noise to an image step by step. After many steps nothing but noise is left."}),
    ("diffusion/forward/beta", "Mean and Variance Parameters (βₜ)", {"summary": "The variance of the noise that step t adds is βₜ. It grows along the schedule, from 0.0001 to 0.02 in the usual linear one."}),
    ("diffusion/forward/alpha-bar", "Cumulative Product (ᾱₜ)", {}),
    ("attention", "Attention", {}),
    ("attention/scaling", "Scaling by √dₖ", {"summary": "Scores are divided by √dₖ so that their variance stays 1. Without it the softmax saturates."}),
    ("attention/cyclegan-note", "CycleGAN", {}),
    ("foundations", "Foundations", {"origin": "foundation"}),
    ("foundations/kl", "KL Divergence", {"origin": "foundation", "summary": "The Kullback-Leibler divergence measures how much one distribution differs from another. It is not symmetric."}),
]  # fmt: skip


def _topics() -> tuple[Topic, ...]:
    titles = {topic_id: title for topic_id, title, _ in _ROWS}
    topics: list[Topic] = []
    for position, (topic_id, title, fields) in enumerate(_ROWS):
        parts = topic_id.split("/")
        path = tuple(titles["/".join(parts[: end + 1])] for end in range(len(parts)))
        parent = "/".join(parts[:-1]) or None
        topics.append(Topic(topic_id, title, path, position, len(parts) - 1, parent, **fields))  # pyright: ignore[reportArgumentType] (fields by name)
    return tuple(topics)


ATLAS = Atlas(
    "Small",
    _topics(),
    prerequisites=(
        Prerequisite("foundations/kl", "vae", "Its loss contains one.", depth="gist"),
        Prerequisite("vae/latent", "vae/elbo", "The expectation runs over it."),
        Prerequisite("diffusion/forward", "vae/elbo", "A second example of a bound.", strength="helpful"),
    ),
    comparisons=(
        Comparison(
            id="reconstruction-vs-kl",
            between=("vae/losses/reconstruction", "vae/losses/kl"),
            question="What does each term of the loss do?",
            aspects=(Aspect("wants", ("a sharp code", "a vague code")), Aspect("closed form", ("no", "yes"))),
            same="Both are measured in nats.",
            choose="Raise the weight of the second when samples are broken.",
            refs=("kingma2013",),
        ),
    ),
    concepts=(ConceptGroup(("vae/losses/kl", "foundations/kl")),),
    references=(
        Reference("goodfellow2014", "Generative Adversarial Nets", ("Ian Goodfellow",), 2014, arxiv="1406.2661"),
        Reference("kingma2013", "Auto-Encoding Variational Bayes", ("Diederik Kingma",), 2013, arxiv="1312.6114"),
    ),
    demos=(Demo("gan-mode-collapse", "Mode collapse", "How many modes survive?"),),
)
