"""Checkpoints to resume from: written aside, hashed, synced, renamed; the newest valid one is taken.

save_checkpoint(run.checkpoints, weights, optimizer.state_dict(), progress, keep=2)
found = newest_checkpoint(run.checkpoints)
found.weights(), found.optimizer(), found.progress

A folder `step-0000050` holds `model.safetensors` (what is trained; with LoRA the adapters alone), `optimizer.pt`,
`progress.json`, where there is one `average.safetensors` (an average of weights) and `extras.pt` (a loss scaler
and the like), and `sha256.json` with size and hash of each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from whispertune.files import sha256
from whispertune.train.keeping.placing import HashedFile, publish

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

WEIGHTS, OPTIMIZER, PROGRESS, MANIFEST = "model.safetensors", "optimizer.pt", "progress.json", "sha256.json"
AVERAGE, EXTRAS = "average.safetensors", "extras.pt"
HEADER_ALIGNMENT = 8

# What safetensors calls the types.
TYPE_NAMES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(slots=True)
class Progress:
    """How far a run is; all that goes on counting after a resume."""

    step: int = 0  # steps done, those that were skipped among them
    evaluated_step: int = 0  # the step of the last evaluation
    evaluated_seconds: float = 0.0  # of speech that were trained on until then
    best_step: int | None = None
    best_value: float | None = None  # of the metric that selects, per cent
    best_of: str = ""  # what it was measured by: metric, context and rows
    context: str = ""  # on which dev is decoded, "fit" or "full"; none before the first evaluation
    dev_rows: int = 0  # that each evaluation decodes, where that was found out; 0 before the first
    segments: int = 0  # drawn for training so far
    speech_seconds: float = 0.0
    seconds_training: float = 0.0
    seconds_waiting: float = 0.0  # of those of training: for data
    seconds_evaluating: float = 0.0
    skipped_steps: int = 0  # without a finite loss: nothing was learned in them
    skipped_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A valid checkpoint on disk."""

    folder: Path
    progress: Progress

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights by name, on the CPU."""
        from safetensors.torch import load_file

        return dict(load_file(self.folder / WEIGHTS))

    def optimizer(self) -> dict[str, Any]:
        """The optimizer's state dict."""
        return self._load(OPTIMIZER)

    def average(self) -> dict[str, torch.Tensor] | None:
        """The averaged weights by name, where some were saved."""
        from safetensors.torch import load_file

        path = self.folder / AVERAGE
        return dict(load_file(path)) if path.exists() else None

    def extras(self) -> dict[str, Any]:
        """What else was saved with it."""
        return self._load(EXTRAS) if (self.folder / EXTRAS).exists() else {}

    def _load(self, name: str) -> dict[str, Any]:
        import torch

        state: dict[str, Any] = torch.load(self.folder / name, map_location="cpu", weights_only=True)
        return state


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: dict[str, Any],
    progress: Progress,
    *,
    keep: int = 2,
    average: Mapping[str, torch.Tensor] | None = None,
    extras: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint whole or not at all, then drop all but the newest `keep`.

    Raises:
        OSError: it could not be written, as where the disk is full; nothing is left of it, those before it stay.
    """
    target = folder / f"step-{progress.step:07d}"
    temporary = folder / f".{target.name}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        manifest = {WEIGHTS: _write_tensors(temporary / WEIGHTS, weights)}
        manifest[OPTIMIZER] = _write_pickled(temporary / OPTIMIZER, optimizer)
        if average is not None:
            manifest[AVERAGE] = _write_tensors(temporary / AVERAGE, average)
        if extras:
            manifest[EXTRAS] = _write_pickled(temporary / EXTRAS, extras)
        manifest[PROGRESS] = _write_text(temporary / PROGRESS, json.dumps(asdict(progress)))
        _write_text(temporary / MANIFEST, json.dumps(manifest))
        publish(temporary, target)
    except BaseException:  # Ctrl-C twice, too
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _prune(folder, target, keep)
    return target


def newest_checkpoint(folder: Path, say: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; `say` is told of others that are passed over.

    One that had made way for another of its step, when the process was killed, counts too.
    """
    made_way = folder.glob(".step-*.old")
    found = [(path.name, True, path) for path in folder.glob("step-*")]
    found += [(path.name.removeprefix(".").removesuffix(".old"), False, path) for path in made_way]
    for name, _, path in sorted(found, reverse=True):
        if _valid(path):
            return Checkpoint(path, _read_progress(path / PROGRESS))
        if say is not None:
            say(f"the checkpoint {name} is not as it was written: it is passed over")
    return None


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Keep `newest` and so many before it as make `keep`; the others go, and what is damaged.

    What stands for a later step is damaged: a run goes on from the newest that is valid.
    """
    before = sorted((path for path in folder.glob("step-*") if path.name < newest.name), reverse=True)
    whole = [path for path in before if _complete(path)]
    kept = {newest, *whole[: keep - 1]}
    for path in folder.glob("step-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash by file; empty where there is none that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(content) if {WEIGHTS, OPTIMIZER, PROGRESS} <= set(content) else {}
    except (OSError, ValueError, TypeError):
        return {}


def _complete(folder: Path) -> bool:
    """Whether all files are there and as long as they were written; a glance, where hashing reads gigabytes."""
    manifest = _read_manifest(folder)
    try:
        sizes = {name: (folder / name).stat().st_size for name in manifest}
        return bool(manifest) and all(sizes[name] == each["bytes"] for name, each in manifest.items())
    except (OSError, KeyError, TypeError):
        return False


def _valid(folder: Path) -> bool:
    try:
        return _complete(folder) and all(
            sha256(folder / name) == each["sha256"] for name, each in _read_manifest(folder).items()
        )
    except (OSError, KeyError):
        return False


def _read_progress(path: Path) -> Progress:
    content = json.loads(path.read_text(encoding="utf-8"))
    known = {each.name for each in fields(Progress)}
    return Progress(**{name: value for name, value in content.items() if name in known})


def _written(file: HashedFile) -> dict[str, Any]:
    return {"bytes": file.size, "sha256": file.sha256}


def _write_text(path: Path, text: str) -> dict[str, Any]:
    with HashedFile(path) as file:
        file.write(text.encode())
    return _written(file)


def _write_pickled(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    import torch

    with HashedFile(path) as file:
        torch.save(content, cast("IO[bytes]", file))
    return _written(file)


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A safetensors file, one tensor after the other: at most one is copied, where it is on a GPU or has gaps."""
    ordered = sorted(tensors.items(), key=lambda each: (-each[1].element_size(), each[0]))  # all are aligned then
    with HashedFile(path) as file:
        file.write(_header(ordered))
        for _, value in ordered:
            file.write(_bytes_of(value))
    return _written(file)


def _header(ordered: Iterable[tuple[str, torch.Tensor]]) -> bytes:
    """Length, then JSON: type, shape and place of every tensor."""
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in ordered:
        begin, end = end, end + value.numel() * value.element_size()
        content[name] = {
            "dtype": TYPE_NAMES[str(value.dtype).removeprefix("torch.")],
            "shape": list(value.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(value: torch.Tensor) -> memoryview:
    import torch

    flat = value.detach().contiguous().cpu().reshape(-1)
    return flat.view(torch.uint8).numpy().data
