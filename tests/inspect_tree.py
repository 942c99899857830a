"""A small folder of recordings to look at, with something of everything: speakers, two rates, rows that must go.

tree(tmp_path / "talks", [Row("a", 1.5, "som vi sa", "ann")])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile


@dataclass(frozen=True)
class Row:
    """One recording: swelling noise, so that it has a level and a signal-to-noise ratio."""

    name: str
    duration_s: float
    text: str
    speaker: str | None = None
    rate_hz: int = 16_000
    gain: float = 1.0  # 0: silence
    seed: int | None = None  # equal seeds give equal audio


TEXT = "och så talade de länge om vädret i byn"


def rows(count: int = 24) -> list[Row]:
    """Usable rows of ann and bo, and of nobody; each third at 8 kHz; the louder the later."""
    return [
        Row(
            name=f"{number}",
            duration_s=1.0 + number / 8,
            text=f"{TEXT[: 18 + number].strip()} {number}",
            speaker=("ann", "bo", None)[number % 3] if number < 12 else "ann",
            rate_hz=8_000 if number % 3 == 0 else 16_000,
            gain=0.2 + number / 40,
        )
        for number in range(count)
    ]


def tree(folder: Path, written: Sequence[Row], language: str = "sv") -> Path:
    """Write the recordings and their metadata.jsonl."""
    folder.mkdir(parents=True)
    lines = []
    for index, row in enumerate(written):
        time = np.arange(round(row.duration_s * row.rate_hz)) / row.rate_hz
        noise = np.random.default_rng(index if row.seed is None else row.seed).normal(0, 0.1, len(time))
        swell = 0.02 + np.abs(np.sin(2 * np.pi * time))
        samples = (row.gain * swell * noise).astype(np.float32)
        soundfile.write(folder / f"{row.name}.wav", samples, row.rate_hz)
        stated = {"file_name": f"{row.name}.wav", "text": row.text, "language": language, "speaker": row.speaker}
        lines.append(json.dumps({name: value for name, value in stated.items() if value is not None}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
