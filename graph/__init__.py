"""The domain: topics, the edges between them, the stores that hold them and the questions they answer."""

from graph.cypher import to_cypher
from graph.errors import AtlasError, ComparisonNotFound, StoreUnavailable, TopicNotFound
from graph.export import (
    ExportUnreadable,
    from_graphml,
    from_json,
    to_graphml,
    to_json,
    to_mermaid,
    to_mermaid_sections,
)
from graph.jsonld import to_jsonld
from graph.model import (
    EDGE_KINDS,
    Aspect,
    Atlas,
    Comparison,
    ConceptGroup,
    Demo,
    DemoLink,
    EdgeKind,
    Level,
    Measured,
    NeighbouringField,
    ParamValue,
    Prerequisite,
    Reference,
    Topic,
)
from graph.networkx_store import NetworkXStore, nearest_ids
from graph.queries import Link, Neighbourhood, comparison_between, neighbourhood, transitive_prerequisites
from graph.store import GraphStore

__all__ = [
    "EDGE_KINDS",
    "Aspect",
    "Atlas",
    "AtlasError",
    "Comparison",
    "ComparisonNotFound",
    "ConceptGroup",
    "Demo",
    "DemoLink",
    "EdgeKind",
    "ExportUnreadable",
    "GraphStore",
    "Level",
    "Link",
    "Measured",
    "Neighbourhood",
    "NeighbouringField",
    "NetworkXStore",
    "ParamValue",
    "Prerequisite",
    "Reference",
    "StoreUnavailable",
    "Topic",
    "TopicNotFound",
    "comparison_between",
    "from_graphml",
    "from_json",
    "nearest_ids",
    "neighbourhood",
    "to_cypher",
    "to_graphml",
    "to_json",
    "to_jsonld",
    "to_mermaid",
    "to_mermaid_sections",
    "transitive_prerequisites",
]
