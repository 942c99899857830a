"""The same shards from a Ray cluster of two nodes, which is started and ended in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prepare.conftest import hashes, recipe_of
from whispertune.errors import InputError
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe_file import save_recipe

_SCRIPT = """
import os
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe_file import load_recipe
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
os.chdir(sys.argv[2])  # not where the nodes were started
os.environ["RAY_ADDRESS"] = cluster.address
try:
    summary = prepare_dataset(load_recipe(Path(sys.argv[1])), Path("ray"), engine="ray")
    print("complete", summary.complete, len(summary.written))
    import ray
    ray.init(address=cluster.address, log_to_driver=False)
    print("nodes", sum(node["Alive"] for node in ray.nodes()))
    ray.shutdown()
finally:
    cluster.shutdown()
"""


def _needs_ray() -> None:
    if importlib.util.find_spec("ray") is None:  # importing it here would change this process
        pytest.skip("Ray is not installed")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """No cluster but one's own: Ray notes the last one in its folder, whose path must be short."""
    _needs_ray()
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="wt-ray-") as folder:
        yield own | {"RAY_TMPDIR": folder}


def test_two_nodes_write_what_one_machine_writes(
    manifest: Path, whole: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    save_recipe(recipe_of(manifest), tmp_path / "recipe.toml")
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(tmp_path / "recipe.toml"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "complete True 4" in done.stdout
    assert "nodes 2" in done.stdout
    assert hashes(tmp_path / "ray") == hashes(whole)


@pytest.mark.parametrize("address", [None, "nohost"])
def test_without_a_cluster_it_says_how_to_start_one(address: str | None, environment: dict[str, str]) -> None:
    code = (
        "from pathlib import Path; from whispertune.prepare.engines import run_ray\n"
        "from whispertune.errors import InputError\n"
        "try: run_ray(Path('.'), [0], 1, lambda *each: None)\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    variables = environment | ({"RAY_ADDRESS": address} if address else {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=variables)
    assert "no Ray cluster answers" in done.stdout
    assert "ray start --head" in done.stdout


def test_without_ray_it_says_what_to_install(talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of what is not installed finds
    with pytest.raises(InputError, match=r"pip install 'whispertune\[ray\]'"):
        prepare_dataset(recipe_of(talks), tmp_path / "out", engine="ray")


def test_an_engine_that_is_none(talks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of local, ray"):
        prepare_dataset(recipe_of(talks), tmp_path / "out", engine="spark")
