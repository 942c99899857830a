"""What the frozen beginning of an encoder gives, computed once: kept on disk for later epochs and later runs.

    root, weights = states_folder(), weights_key(encoder, "bfloat16", "cpu")
    needed = needed_bytes(plan, width)
    prune(root, limit_bytes, root / weights, needed)                   # older ones make room
    with StateCache(root, width, weights, limit_bytes) as cache:
        cache.told(needed)                                             # "what the frozen encoder gives takes ..."
        feed = Feed(..., store=cache)                                  # windows come with states where it has them
        frozen = FrozenPrefix(encoder, n_mels, "bfloat16", "cpu", cache)
        step = replace(step, windows=frozen.fill(step.windows))        # and the others get theirs

States are rounded to bfloat16 when they are computed. Those of a window do not depend on the others in its batch but
for the last bits of a float32, since sums go otherwise in batches of other sizes; so which of them were kept makes no
more difference than that. A window is known by what is heard in it: the recordings (files, and those that rows lie in,
by path, size and time of change; bytes that came with a row by their content), the stretches of them, where they
stand, how fast they play. Its texts, timestamps and prompts do not matter.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from whispertune.data.segments import Embedded, Held, Joined, Recording
from whispertune.model.cache import cache_folder
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.states.state_files import ITEM_BYTES, KEY_BYTES, StateFiles, folder_bytes, silent
from whispertune.windows.batches import STEP_SAMPLES, LoadedWindow, PlannedWindow, fit_samples
from whispertune.windows.features import WINDOW_SAMPLES, log_mel
from whispertune.windows.pack import WINDOW_S, Piece, singles

if TYPE_CHECKING:
    import torch

VERSION = 1  # of what is kept; raise it where the same audio would give other states
DISK_SHARE = 0.5  # of what is free on the disk: checkpoints need room too
REMEMBERED = 4096  # windows that were asked for and may come to be written
COUNTED_ROWS = 20_000  # in the tables, up to which all windows are counted to tell how much will be kept
MEASURED_STEPS = 200  # of the plan, that tell it of more
TOGETHER_FRAMES = 4 * 3_000  # of mel in one forward pass, without gradients


def states_folder() -> Path:
    """Where all frozen encoders' states lie, a folder for each."""
    return cache_folder() / "states"


# --- keys ------------------------------------------------------------------------------------------------------


def weights_key(encoder: Any, precision: str, device: str) -> str:
    """A name for what decides the states besides the audio: the frozen weights, and how they are computed with.

    Args:
        encoder: from `swap_encoder`, with `frozen_layers` set.
        precision: float32, bfloat16 or float16.
        device: its kind counts: a GPU rounds otherwise than a CPU.
    """
    import torch

    count = len(encoder.layers)
    kept = ["conv1.", "conv2.", "embed_positions.", *(f"layers.{n}." for n in range(min(encoder.frozen_layers, count)))]
    if encoder.frozen_layers > count:
        kept.append("layer_norm.")
    how = (VERSION, precision, torch.device(device).type, encoder.frozen_layers, encoder.config.encoder_attention_heads)
    hashed = hashlib.sha256(repr(how).encode())
    for name, value in sorted(encoder.state_dict().items()):
        if name.startswith(tuple(kept)):
            hashed.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
            hashed.update(_bytes(value))
    return hashed.hexdigest()[:32]


def _bytes(value: torch.Tensor) -> memoryview:
    import torch

    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def window_key(planned: PlannedWindow) -> bytes:
    """A name for all that is heard in a window, and nothing else.

    Raises:
        OSError: a file is not there.
    """
    heard: list[object] = [VERSION, planned.samples]
    for piece in planned.window.pieces:
        end_s = piece.heard_end_s(timestamps=planned.timestamps)
        identity = _identity(piece.recording, piece.start_s, end_s)
        heard.append((identity, *map(float, (piece.start_s, end_s, piece.offset_s, piece.speed))))
    return hashlib.sha256(repr(heard).encode()).digest()[:KEY_BYTES]


def _identity(recording: Recording, start_s: float, end_s: float) -> tuple[object, ...]:
    """What says that a recording is the same; of a joined one the parts that are heard."""
    if isinstance(recording, Held):
        return ("held", hashlib.sha256(recording.data).hexdigest())
    if isinstance(recording, Embedded):
        return ("row", *_file(recording.container), recording.column, recording.row)
    if isinstance(recording, Joined):
        parts = [part for part in recording.parts if part.start_s < end_s and part.end_s > start_s]
        return tuple((_identity(part.audio, start_s, end_s), part.start_s, part.end_s) for part in parts)
    return ("file", *_file(recording))


def _file(path: Path) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


# --- the cache -------------------------------------------------------------------------------------------------


class StateCache:
    """The states of one frozen prefix; threads may share it."""

    def __init__(
        self,
        root: Path,
        width: int,
        weights: str,
        limit_bytes: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        say: Callable[[str], None] = silent,
    ) -> None:
        """Open or begin it; all caches in `root` together grow to `limit_bytes` at most.

        Each rank writes files of its own and reads those of all.
        """
        self.folder = root / weights
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files = StateFiles(self.folder, width, _room_bytes(root, limit_bytes) // ranks, rank, say)
        self.allowed_bytes = folder_bytes(self.folder) + ranks * self._files.room_bytes  # for all ranks
        self._lock = Lock()
        self._asked: dict[int, tuple[PlannedWindow, bytes]] = {}  # by identity: windows that were not found

    def read(self, planned: PlannedWindow) -> NDArray[np.uint16] | None:
        """The bits of a window's states, (frames, width), mapped into memory; None where they are not kept."""
        try:
            key = window_key(planned)
        except OSError:  # reading the audio will tell
            return None
        states = self._files.read(key)
        if states is None and self._files.writes:
            self._remember(planned, key)
        return None if states is None or len(states) != planned.samples // STEP_SAMPLES else states

    def write(self, planned: PlannedWindow, states: torch.Tensor) -> None:
        """Keep a window's states, bfloat16, (frames, width), where there is room.

        It stands under the name that it had when `read` was asked for it (and only then is it kept): a file that
        changed since may not be what was heard.
        """
        with self._lock:
            _, key = self._asked.pop(id(planned), (planned, None))
        if key is not None:
            self._files.write(key, bits(states))

    def __len__(self) -> int:
        """Windows that are kept."""
        return len(self._files)

    def told(self, needed: int) -> str:
        """A sentence for people: how much will be kept of what takes `needed` bytes, and where."""
        share = min(1.0, self.allowed_bytes / max(needed, 1))
        rest = "" if share == 1 else f", so about {100 * share:.0f} % of it; the rest is computed each time"
        before = f"; {len(self):,} windows are there from earlier runs" if len(self) else ""
        return (
            f"what the frozen encoder gives takes about {needed / 1e9:.2g} GB, kept in {self.folder}: "
            f"{self.allowed_bytes / 1e9:.3g} GB may be{rest}{before}"
        )

    def close(self) -> None:
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _remember(self, planned: PlannedWindow, key: bytes) -> None:
        with self._lock:
            self._asked[id(planned)] = planned, key
            if len(self._asked) > REMEMBERED:  # of windows that were never written
                del self._asked[next(iter(self._asked))]


def bits(states: torch.Tensor) -> NDArray[np.uint16]:
    """The bit patterns of bfloat16 numbers: numpy has no such type."""
    import torch

    return states.detach().cpu().contiguous().view(torch.int16).numpy().view(np.uint16)


def _room_bytes(root: Path, limit_bytes: int) -> int:
    """What may be added under a limit, and on this disk."""
    kept_bytes = sum(folder_bytes(folder) for folder in root.iterdir())
    return max(0, min(limit_bytes - kept_bytes, int(DISK_SHARE * shutil.disk_usage(root).free)))


# --- sizes, told beforehand ------------------------------------------------------------------------------------


def state_bytes(samples: Iterable[int], width: int) -> int:
    """What the states of windows of so many samples take."""
    return sum(each // STEP_SAMPLES for each in samples) * width * ITEM_BYTES


def needed_bytes(plan: Plan, width: int) -> int:
    """What the states of all windows of a fixed plan take; of a large one about that, going by its first steps."""
    if plan.settings.fixed and sum(supply.rows or 0 for supply in plan.supplies) <= COUNTED_ROWS:
        return state_bytes((planned.samples for planned in plan.composition()), width)
    found = steps = 0
    most = MEASURED_STEPS if plan.total_steps is None else min(plan.total_steps, MEASURED_STEPS)
    while steps < most and (plan.epochs_done(steps + 1) or 0) <= 1:
        pieces = [piece for planned in plan.step(steps).windows for piece in planned.window.pieces]
        found += state_bytes(_all_samples(pieces, plan.settings), width)
        steps += 1
    return round(found / max(steps, 1) / (plan.epochs_done(1) or 1) * plan.ranks)


def _all_samples(pieces: Sequence[Piece], settings: PlanSettings) -> list[int]:
    """How long the windows of a step are, in each way that they may be shown."""
    found: list[int] = []
    if settings.fit_share > 0:
        found += [fit_samples(cue.duration_s) for piece in pieces for cue in singles(piece)]
    if settings.fit_share < 1:
        windows = math.ceil(sum(piece.duration_s for piece in pieces) / WINDOW_S)
        found += [WINDOW_SAMPLES] * windows
    return found


# --- computing what is not kept --------------------------------------------------------------------------------


class FrozenPrefix:
    """Computes the states of windows that came without, each at its own length."""

    def __init__(self, encoder: Any, n_mels: int, precision: str, device: str, cache: StateCache | None) -> None:
        """`encoder` is from `swap_encoder`, with `frozen_layers` set."""
        self.encoder, self.n_mels, self.device, self.cache = encoder, n_mels, device, cache
        self.precision = precision

    def fill(self, windows: Sequence[LoadedWindow]) -> tuple[LoadedWindow, ...]:
        """The same windows in the same order, all of them with states instead of audio.

        What is computed is kept, unless a stretch of the window did not decode.
        """
        found = list(windows)
        for rows in _groups(windows):
            for row, states in zip(rows, self._states([windows[row] for row in rows]), strict=True):
                window = windows[row]
                assert not window.masks, "what is augmented is not kept"
                found[row] = replace(window, audio=None, states=bits(states))
                if self.cache is not None and window.planned is not None and not window.problems:
                    self.cache.write(window.planned, states)
        return tuple(found)

    def _states(self, windows: Sequence[LoadedWindow]) -> torch.Tensor:  # bfloat16, (windows, frames / 2, width)
        import torch

        audio = torch.from_numpy(np.stack([window.audio for window in windows if window.audio is not None]))
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.precision)
        mel = log_mel(audio.to(self.device), self.n_mels)  # in float32: not under autocast
        with torch.no_grad(), torch.autocast(torch.device(self.device).type, dtype=dtype, enabled=dtype is not None):
            states: torch.Tensor = self.encoder.prefix(mel)
        return states.to(torch.bfloat16)


def _groups(windows: Sequence[LoadedWindow]) -> list[list[int]]:
    """Rows of windows with audio, those of one length together: none is padded."""
    by_length: dict[int, list[int]] = {}
    for row, window in enumerate(windows):
        if window.states is None:
            by_length.setdefault(window.frames, []).append(row)
    sizes = {frames: max(1, TOGETHER_FRAMES // frames) for frames in by_length}
    return [
        rows[first : first + sizes[frames]]
        for frames, rows in by_length.items()
        for first in range(0, len(rows), sizes[frames])
    ]
