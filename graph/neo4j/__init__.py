"""The atlas on a Neo4j server: for several processes, and for atlases that outgrow one machine's memory.

Import it where it is used: it loads the driver, which nothing else needs.
"""

from graph.neo4j.connection import Neo4jConnection
from graph.neo4j.load import Contents, LoadIncomplete, LoadReport, PassageRow, load, vector_index, words_index
from graph.neo4j.store import Neo4jStore, serving_build

__all__ = [
    "Contents",
    "LoadIncomplete",
    "LoadReport",
    "Neo4jConnection",
    "Neo4jStore",
    "PassageRow",
    "load",
    "serving_build",
    "vector_index",
    "words_index",
]
