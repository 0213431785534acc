"""How a server means to answer a query: the operators of its plan."""

from pathlib import Path
from typing import Any

import neo4j

from service import neo4j_server

SCANS = {"AllNodesScan", "NodeByLabelScan", "CartesianProduct", "DirectedAllRelationshipsScan"}
"""What reads all there is, or joins all with all."""


def operators(home: Path, query: str, parameters: dict[str, Any]) -> list[str]:
    """The operators of a query's plan on a home's running server; nothing is run."""
    auth = (neo4j_server.USER, neo4j_server.password_of(home))
    with neo4j.GraphDatabase.driver(neo4j_server.status(home).url, auth=auth) as driver:  # pyright: ignore[reportUnknownMemberType] (options untyped)
        session: Any = driver.session()  # pyright: ignore[reportUnknownMemberType]
        with session:
            plan = session.run(f"EXPLAIN {query}", parameters).consume().plan
    found: list[str] = []
    ahead: list[Any] = [plan]
    while ahead:
        step = ahead.pop()
        found.append(str(step["operatorType"]).partition("@")[0])
        ahead.extend(step.get("children", ()))
    return found
