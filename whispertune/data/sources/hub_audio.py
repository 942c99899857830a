"""Audio that the `datasets` library passes on as it is; its own kind asks for torchcodec even to pass on a path.

    leave_audio_alone(builder)             # of a folder of audio or a WebDataset; Parquet needs no such care

This module imports `datasets`, so it is imported where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Audio, Features


@dataclass
class Untouched(Audio):  # type: ignore[misc]  # the library has no types
    """Audio as bytes, or as the path of a file, neither encoded nor decoded."""

    decode: bool = False

    def encode_example(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return {"bytes": None, "path": str(value)}


def leave_audio_alone(builder: Any) -> None:
    """Make the builder of a dataset take its audio as `Untouched`."""
    found_splits = builder._split_generators  # which also finds the features, where no card names them

    def split_generators(manager: Any) -> Any:
        splits = found_splits(manager)
        builder.info.features = untouched(builder.info.features)
        return splits

    builder._split_generators = split_generators


def untouched(features: Features | None) -> Features | None:
    """The features, their audio untouched."""
    if features is None:
        return None
    kept = {
        name: Untouched(sampling_rate=kind.sampling_rate) if isinstance(kind, Audio) else kind
        for name, kind in features.items()
    }
    return Features(kept)
