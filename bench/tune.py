"""Fit the encoder to the atlas: a low-rank change of its weights, learned from the questions that topics name.

    python -m bench.tune        over the atlas that was built last; writes search/adapter/

Each question is drawn to a passage of its own topic, never to itself, and away from the other topics of the batch, from
a topic that the encoder as published takes to be near, and from what is asked in fields beside the atlas. No judged
question has a part in it. An hour on two cores, half a minute on a GPU; `genatlas build` then exports the encoder anew.

Source: the loss is InfoNCE, van den Oord et al. 2018, arXiv:1807.03748, eq. (4); the change LoRA, Hu et al. 2021,
arXiv:2106.09685, eq. (3), saved in the form of the peft package.
"""

import argparse
import importlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

RANK, EPOCHS, BATCH, RATE, TEMPERATURE = 8, 6, 256, 5e-4, 0.05
NEAREST, FOREIGN = 40, 64
"""Wrong passages from which a question's hard one is drawn, and foreign questions in each batch."""
DRAWN = {"summary": 4.0, "detail": 2.0, "question": 1.5, "look_at": 0.5, "formula": 0.3}
"""How often a passage of a field is what a question is drawn to; every other field has 1."""
ADAPTED = ["query", "key", "value", "dense"]


@dataclass(frozen=True)
class Lessons:
    """What is learned from: passages with the field and the concept of each, and foreign texts."""

    texts: Sequence[str]
    fields: Sequence[str]
    concepts: Sequence[int]
    foreign: Sequence[str]


class Texts:
    """Texts as tokens, and as the unit vectors that a model makes of them."""

    def __init__(self, model: nn.Module, tokenizer: Any, device: str) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._device = device

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, cut at the encoder's length."""
        return [each.ids for each in self._tokenizer.encode_batch(list(texts))]

    def vectors(self, tokens: Sequence[list[int]]) -> Tensor:
        """Mean of the last layer's vectors, scaled to length 1, (n, d), as search.export_model has it."""
        longest = max(map(len, tokens))
        ids = torch.tensor([each + [0] * (longest - len(each)) for each in tokens], device=self._device)  # (n, t)
        mask = (torch.arange(longest) < torch.tensor([[len(each)] for each in tokens])).to(self._device)  # (n, t)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
            hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # (n, t, d)
        mean = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return nn.functional.normalize(mean, dim=1)

    @torch.no_grad()
    def encoded(self, tokens: Sequence[list[int]]) -> Tensor:
        """The same for many texts, (n, d)."""
        order = sorted(range(len(tokens)), key=lambda number: len(tokens[number]))
        parts = [self.vectors([tokens[n] for n in order[at : at + 512]]) for at in range(0, len(order), 512)]
        return torch.cat(parts)[torch.tensor(order, device=self._device).argsort()]


def tune(lessons: Lessons, model: nn.Module, tokenizer: Any, device: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the change of the model's weights: the matrices A and B of each layer, under the names of peft."""
    peft: Any = importlib.import_module("peft")
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] (peft draws the matrices from torch's own generator)
    draws = random.Random(seed)
    texts = Texts(model.to(device).eval(), tokenizer, device)
    tokens, foreign = texts.tokens(lessons.texts), texts.tokens(lessons.foreign)
    questions = [number for number, field in enumerate(lessons.fields) if field == "question"]
    concepts = torch.tensor(lessons.concepts, device=device)
    wrong = _nearest_wrong(texts.encoded(tokens), torch.tensor(questions, device=device), concepts)
    wrong_of: dict[int, list[int]] = dict(zip(questions, wrong.cpu().numpy().tolist(), strict=True))
    passages_of: dict[int, list[int]] = {}
    for number, concept in enumerate(lessons.concepts):
        passages_of.setdefault(concept, []).append(number)

    texts.model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=ADAPTED))
    weights = [weight for weight in texts.model.parameters() if weight.requires_grad]
    steps = EPOCHS * (len(questions) // BATCH)
    adam = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        place = step % (len(questions) // BATCH)
        if place == 0:
            draws.shuffle(questions)
        asked = questions[place * BATCH : (place + 1) * BATCH]
        right: list[int] = []
        for number in asked:
            others = [each for each in passages_of[lessons.concepts[number]] if each != number]
            right += draws.choices(others, [DRAWN.get(lessons.fields[each], 1.0) for each in others])
        hard = [draws.choice(wrong_of[number]) for number in asked]
        beside = draws.sample(range(len(foreign)), min(FOREIGN, len(foreign)))
        loss = _loss(
            texts.vectors([tokens[number] for number in asked]),
            texts.vectors([tokens[number] for number in right + hard] + [foreign[number] for number in beside]),
            concepts[asked],
            torch.cat([concepts[right + hard], torch.full((len(beside),), -1, device=device)]),
        )
        adam.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()  # pyright: ignore[reportUnknownMemberType] (its closure is untyped)
        schedule.step()
        print(f"step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    return {name: part.half().cpu() for name, part in peft.get_peft_model_state_dict(texts.model).items()}


def _nearest_wrong(vectors: Tensor, questions: Tensor, concepts: Tensor) -> Tensor:
    """For each question the NEAREST passages that are about something else, (questions, NEAREST)."""
    found = [
        (vectors[some] @ vectors.T).masked_fill(concepts[some][:, None] == concepts, -2).topk(NEAREST).indices
        for some in torch.split(questions, 512)
    ]
    return torch.cat(found)


def _loss(questions: Tensor, passages: Tensor, asked: Tensor, told: Tensor) -> Tensor:
    """InfoNCE: the i-th passage (m, d) is right for the i-th question (n, d); others of its concept are left out."""
    same = asked[:, None] == told  # (n, m)
    same.fill_diagonal_(False)
    logits = (questions @ passages.T / TEMPERATURE).masked_fill(same, -1e4)
    return nn.functional.cross_entropy(logits, torch.arange(len(questions), device=logits.device))


def write_adapter(change: dict[str, Tensor], folder: Path, model_id: str) -> None:
    """Write the change as peft reads it."""
    safetensors: Any = importlib.import_module("safetensors.torch")
    folder.mkdir(exist_ok=True)
    safetensors.save_file(
        {name: part.contiguous() for name, part in sorted(change.items())}, folder / "adapter_model.safetensors"
    )
    about = {
        "peft_type": "LORA",
        "base_model_name_or_path": model_id,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ADAPTED,
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def lessons_of_the_atlas() -> Lessons:
    """The passages of the atlas that was built last; the places of one concept count as one."""
    from search import boundary_examples
    from service import Settings
    from service.contents import read_passages
    from service.opened import SnapshotAtlas

    opened = SnapshotAtlas(Settings.read())
    passages = read_passages(opened.snapshot.verified("passages.json"))
    number = {topic.id: position for position, topic in enumerate(opened.store.topics())}
    concept = [number[opened.store.canonical(passage.topic).id] for passage in passages]
    foreign = [example.text for example in boundary_examples(opened.atlas())]
    return Lessons([each.text for each in passages], [each.field for each in passages], concept, foreign)


def main() -> None:
    """Learn from the atlas and write search/adapter."""
    from tokenizers import Tokenizer
    from transformers import BertModel

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # peft would ask for the model's home page
    import search
    from search.encoder import MAX_TOKENS, MODEL_ID
    from search.export_model import packaged_model

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    source = packaged_model()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)  # pyright: ignore[reportUnknownMemberType] (**kwargs is untyped)
    model: nn.Module = BertModel.from_pretrained(str(source), add_pooling_layer=False)  # pyright: ignore[reportUnknownMemberType]
    change = tune(lessons_of_the_atlas(), model, tokenizer, given.device)
    write_adapter(change, Path(search.__file__).parent / "adapter", MODEL_ID)


if __name__ == "__main__":
    main()
