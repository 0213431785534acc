"""What a snapshot holds, as values: written by a build, read by whoever opens it.

atlas.json       the atlas
boundary.npy     one vector for each example of a neighbouring field
comparisons.npy  one vector for each example of a comparison
passages.json    its passages, in the order of their vectors
vectors.faiss    one vector a passage
lexical/         the lexical index
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from graph import Atlas
from search import Examples, Passage, boundary_examples, comparison_examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def read_examples(folder: Path, atlas: Atlas) -> tuple[Examples, Examples]:
    """The examples of neighbouring fields and those of comparisons of a snapshot's folder, which holds this atlas."""
    import numpy as np

    return (
        Examples(boundary_examples(atlas), np.load(folder / "boundary.npy", allow_pickle=False)),
        Examples(comparison_examples(atlas), np.load(folder / "comparisons.npy", allow_pickle=False)),
    )
