"""What a snapshot holds, as values: written by a build, read by whoever opens it.

atlas.json            the atlas
boundary.json, .npy   examples of neighbouring fields, and a vector for each
comparisons.json, .npy    the same of comparisons
passages.json         the passages, in the order of their vectors
vectors.faiss         one vector a passage
lexical/              the lexical index

Whatever has a vector is written with its text: a later version may make other texts of the same atlas.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from graph import Atlas
from search import Example, Examples, Passage, boundary_examples, comparison_examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


ExamplesName = Literal["boundary", "comparisons"]
EXAMPLES = ("boundary.json", "boundary.npy", "comparisons.json", "comparisons.npy")


def write_contents(
    folder: Path,
    atlas: Atlas,
    passages: Sequence[Passage],
    vector_of: "Mapping[str, NDArray[np.float32]]",
) -> None:
    """Write a snapshot's files into an empty folder. vector_of has the unit vector (d,) of every text."""
    import numpy as np

    from search.dense import DenseIndex
    from search.lexical import LexicalIndex

    (folder / "atlas.json").write_bytes(msgspec.json.encode(atlas))
    (folder / "passages.json").write_bytes(msgspec.json.encode(passages))
    for name, examples in (("boundary", boundary_examples(atlas)), ("comparisons", comparison_examples(atlas))):
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(examples))
        rows = np.array([vector_of[example.text] for example in examples], np.float32)
        np.save(folder / f"{name}.npy", rows, allow_pickle=False)
    vectors = np.stack([vector_of[passage.text] for passage in passages])
    DenseIndex.build(vectors).save(folder / "vectors.faiss")
    LexicalIndex.build([passage.text for passage in passages]).save(folder / "lexical")


def read_atlas(folder: Path) -> Atlas:
    """The atlas of a snapshot's folder."""
    return msgspec.json.decode((folder / "atlas.json").read_bytes(), type=Atlas)


def read_passages(folder: Path) -> tuple[Passage, ...]:
    """The passages of a snapshot's folder, in the order of its vectors."""
    return msgspec.json.decode((folder / "passages.json").read_bytes(), type=tuple[Passage, ...])


def read_examples(folder: Path, name: ExamplesName) -> Examples:
    """The examples of neighbouring fields ("boundary") or those of comparisons of a snapshot's folder."""
    import numpy as np

    examples = msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=tuple[Example, ...])
    return Examples(examples, np.load(folder / f"{name}.npy", allow_pickle=False))
