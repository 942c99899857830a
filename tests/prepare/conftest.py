"""Small trees to make datasets of: recordings with captions, and clips with a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.hub_client import connected
from tests.hub_server import Hub
from whispertune.prepare.engines import ENGINES, Tell
from whispertune.prepare.job import write_shard
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe

RATE_HZ = 16_000
SHARD_S = 300.0  # no shard is smaller, where there is so much
WORDS = ["ett", "två", "tre", "fyra", "fem", "sex", "sju", "åtta", "nio", "tio", "elva", "tolv"]


def voice(seconds: float, seed: int) -> np.ndarray:
    """16-bit samples that are nowhere alike: noise that swells as syllables do."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.round(rng.normal(0, 2500, len(time)) * (0.6 + 0.4 * np.sin(9 * time))).astype(np.int16)


def talk(folder: Path, name: str, cues: Sequence[tuple[float, float]], seconds: float, seed: int) -> None:
    """A recording with captions beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.flac", voice(seconds, seed), RATE_HZ, subtype="PCM_16")
    lines = ["WEBVTT", ""]
    for number, (start_s, end_s) in enumerate(cues):
        text = f"{name} {WORDS[number % 12]} {WORDS[number // 12 % 12]} om detta nummer {number}"
        lines += [f"{_clock(start_s)} --> {_clock(end_s)}", text, ""]
    (folder / f"{name}.vtt").write_text("\n".join(lines), encoding="utf-8")


def clips(folder: Path, count: int, seconds: float, seed: int, *, name: str = "clip") -> None:
    """Clips with a manifest; the same file stands in it for several rows where they are many."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        soundfile.write(folder / f"{name}{number}.wav", voice(seconds, seed + number), RATE_HZ, subtype="PCM_16")
        text = f"{name} {WORDS[number % 12]} sade {WORDS[number // 12 % 12]} i rad {number} av {seed}"
        rows.append(json.dumps({"file_name": f"{name}{number}.wav", "text": text, "speaker": f"s{number % 3}"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def recipe_of(train: Path, dev: Path | None = None, **more: object) -> Recipe:
    data: dict[str, object] = {"train": [{"source": str(train)}]}
    if dev:
        data["dev"] = [{"source": str(dev)}]
    data |= more.pop("data", {})  # type: ignore[arg-type]
    return parse_recipe({"model": "none", "language": "sv", "data": data} | more)


def hashes(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "data").iterdir())}


def long_manifest(folder: Path, minutes: float) -> Path:
    """Stretches of a few files, named again and again: enough of them for several shards, no two alike."""
    folder.mkdir(parents=True)
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", voice(40.0, 100 + number), RATE_HZ, subtype="PCM_16")
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for row in range(round(minutes * 6)):
            start_s = (row // 4) * 0.25 % 30
            text = f"rad {row} i en lång lista"
            told = {"file_name": f"{row % 4}.wav", "text": text, "start": start_s, "end": start_s + 10.0}
            lines.write(json.dumps(told) + "\n")
    return folder


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes: four shards."""
    return long_manifest(tmp_path_factory.mktemp("long") / "data", 4 * SHARD_S / 60)


@pytest.fixture(scope="session")
def whole(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of it, made in one go."""
    out = tmp_path_factory.mktemp("whole") / "dataset"
    prepare_dataset(recipe_of(manifest), out, processes=2)
    return out


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Two recordings: cues that touch, short and long pauses between them, quiet in front."""
    folder = tmp_path / "talks"
    cues = [(0.8, 3.1), (3.1, 6.45), (7.2, 9.999), (12.5, 15.0), (21.0, 24.2), (24.3, 26.0)]
    cues += [(27.0 + 3 * n, 29.3 + 3 * n) for n in range(15)]
    talk(folder, "opening", cues, 75.0, seed=1)
    talk(folder / "day2", "closing", [(0.0, 2.0), (2.5, 5.0), (5.02, 7.7)], 8.0, seed=2)
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of the local engine without processes of their own, for tests of what is in a dataset."""

    def run_here(work: Path, shards: Sequence[int], processes: int, tell: Tell) -> None:
        for number in shards:
            record = write_shard(work, number, lambda rows, seconds: None)
            tell(number, record.rows, record.seconds, True)

    monkeypatch.setitem(ENGINES, "local", run_here)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback that this process and those it starts speak with, as the user "me"."""
    with Hub() as running, connected(running, tmp_path / "hub home", monkeypatch):
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield running


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60)
    return f"00:{int(minutes):02d}:{seconds:06.3f}"
