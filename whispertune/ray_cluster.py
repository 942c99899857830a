"""A Ray cluster, for what prepares data and what trains.

with ray_cluster() as ray:
    ray.nodes()
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from whispertune.errors import InputError


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names, or to the one that runs here.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray", fix="pip install 'whispertune[ray]'") from None
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:  # none known here, one that has gone, no address
            fix = "start one with: ray start --head   (or set RAY_ADDRESS)"
            raise InputError(f"no Ray cluster answers ({str(error).splitlines()[0]})", fix=fix) from None
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()
