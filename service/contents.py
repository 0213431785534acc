"""What a snapshot holds, as values: written by a build, read by whoever opens it.

atlas.json       the atlas
boundary.npy     one vector for each example of a neighbouring field
passages.json    its passages, in the order of their vectors
vectors.faiss    one vector a passage
lexical/         the lexical index
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from graph import Atlas
from search import Boundary, Passage, examples_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_contents(
    folder: Path,
    atlas: Atlas,
    passages: Sequence[Passage],
    vectors: "NDArray[np.float32]",
    boundary: "NDArray[np.float32]",
) -> None:
    """Write a snapshot's files into an empty folder. vectors is (n, d), one row a passage, unit length.

    boundary is (m, d), one row for each of `examples_of(atlas)`.
    """
    import numpy as np

    from search.dense import DenseIndex
    from search.lexical import LexicalIndex

    (folder / "atlas.json").write_bytes(msgspec.json.encode(atlas))
    (folder / "passages.json").write_bytes(msgspec.json.encode(passages))
    np.save(folder / "boundary.npy", boundary, allow_pickle=False)
    DenseIndex.build(vectors).save(folder / "vectors.faiss")
    LexicalIndex.build([passage.text for passage in passages]).save(folder / "lexical")


def read_atlas(folder: Path) -> Atlas:
    """The atlas of a snapshot's folder."""
    return msgspec.json.decode((folder / "atlas.json").read_bytes(), type=Atlas)


def read_passages(folder: Path) -> tuple[Passage, ...]:
    """The passages of a snapshot's folder, in the order of its vectors."""
    return msgspec.json.decode((folder / "passages.json").read_bytes(), type=tuple[Passage, ...])


def read_boundary(folder: Path) -> Boundary:
    """The neighbouring fields of a snapshot's folder."""
    import numpy as np

    return Boundary(examples_of(read_atlas(folder)), np.load(folder / "boundary.npy", allow_pickle=False))
