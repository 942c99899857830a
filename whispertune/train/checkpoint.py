"""Checkpoints to resume from: written aside, synced, hashed, renamed; the newest valid one is taken.

save_checkpoint(run / "checkpoints", module_state, optimizer_state, progress)
found = newest_checkpoint(run / "checkpoints")
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whispertune.files import sha256, sync

if TYPE_CHECKING:
    import torch

KEEP = 2
WEIGHTS, OPTIMIZER, PROGRESS, MANIFEST = "model.safetensors", "optimizer.pt", "progress.json", "sha256.json"


@dataclass(slots=True)
class Progress:
    """How far a run is; all that goes on counting after a resume."""

    step: int = 0  # steps done
    evaluated_step: int = 0  # the step of the last evaluation
    parts_evaluated: int = 0  # how many of the evaluations spread over the run are behind it
    best_step: int | None = None
    best_value: float | None = None  # of the metric that selects, per cent
    segments: int = 0  # drawn for training so far
    speech_seconds: float = 0.0
    seconds_training: float = 0.0
    seconds_evaluating: float = 0.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A valid checkpoint on disk."""

    folder: Path
    progress: Progress

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights by name, on the CPU."""
        from safetensors.torch import load_file

        return dict(load_file(self.folder / WEIGHTS))

    def optimizer(self) -> dict[str, Any]:
        """The optimizer's state dict."""
        import torch

        state: dict[str, Any] = torch.load(self.folder / OPTIMIZER, map_location="cpu", weights_only=True)
        return state


def save_checkpoint(
    folder: Path, weights: dict[str, torch.Tensor], optimizer: dict[str, Any], progress: Progress
) -> Path:
    """Write a checkpoint whole or not at all, then drop all but the newest two."""
    import torch
    from safetensors.torch import save_file

    target = folder / f"step-{progress.step:07d}"
    temporary = folder / f".{target.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, temporary / WEIGHTS)
    torch.save(optimizer, temporary / OPTIMIZER)
    (temporary / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
    hashes = {name: sha256(temporary / name) for name in (WEIGHTS, OPTIMIZER, PROGRESS)}
    (temporary / MANIFEST).write_text(json.dumps(hashes), encoding="utf-8")
    publish(temporary, target)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return target


def publish(temporary: Path, target: Path) -> None:
    """Sync a finished folder and rename it into place; one of the same name makes way at the last moment."""
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old)
    else:
        temporary.rename(target)
    sync(target.parent)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; damaged ones are passed over."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        if _valid(candidate):
            content = json.loads((candidate / PROGRESS).read_text(encoding="utf-8"))
            return Checkpoint(candidate, Progress(**content))
    return None


def _valid(folder: Path) -> bool:
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(sha256(folder / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError):
        return False
