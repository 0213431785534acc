from collections.abc import Mapping
from enum import Enum
from pathlib import Path

class QuantType(Enum):
    QInt8 = 0

def quantize_dynamic(
    model_input: Path,
    model_output: Path,
    per_channel: bool = ...,
    weight_type: QuantType = ...,
    extra_options: Mapping[str, object] | None = ...,
) -> None: ...
