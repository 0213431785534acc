import subprocess
import sys

import pytest

from graph import GraphStore, NetworkXStore
from tests.graph.atlases import ATLAS
from tests.graph.store_contract import GraphStoreContract


class TestNetworkXStore(GraphStoreContract):
    @pytest.fixture
    def store(self) -> GraphStore:
        return NetworkXStore(ATLAS)


def test_looking_up_topics_does_not_load_networkx() -> None:
    program = (
        "import sys; from graph import NetworkXStore; from tests.graph.atlases import ATLAS;"
        "store = NetworkXStore(ATLAS); store.topic('gan'); store.twins('gan'); store.subtree('gan');"
        "assert 'networkx' not in sys.modules; store.prerequisites('gan'); assert 'networkx' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
