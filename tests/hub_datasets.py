"""Little datasets in the shape of those on the hub: Parquet as the `datasets` library writes it, real encoded audio.

hub.add_repo("google/fleurs", fleurs())        # sv_se (train in two shards, validation) and de_de
hub.add_repo("mozilla/cv", common_voice())     # 48 kHz MP3, the speaker as a hash
hub.add_repo("facebook/voxpopuli", voxpopuli())
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

GROUP_ROWS = 3
Files = dict[str, bytes]


def noise(seed: int, duration_s: float, rate_hz: int = 16_000) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * rate_hz)).astype(np.float32)


def encoded(seed: int, duration_s: float, kind: str = "WAV", rate_hz: int = 16_000) -> bytes:
    """Noise as the bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, noise(seed, duration_s, rate_hz), rate_hz, format=kind)
    return file.getvalue()


def clip(seed: int, duration_s: float, kind: str = "WAV", rate_hz: int = 16_000) -> dict[str, Any]:
    """What a column of audio holds."""
    return {"bytes": encoded(seed, duration_s, kind, rate_hz), "path": f"{seed}.{kind.lower()}"}


def parquet(features: Any, rows: Sequence[Mapping[str, Any]], group_rows: int = GROUP_ROWS) -> bytes:
    """A shard with the features in its metadata."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.Table.from_pylist([dict(row) for row in rows], schema=features.arrow_schema)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group_rows)
    return file.getvalue()


def card(configs: Mapping[str, Iterable[str]]) -> bytes:
    """A README whose front matter names the configurations and their splits, at config/split-*."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    return "\n".join([*lines, "---", "A dataset.", ""]).encode()


def fleurs_rows(first: int, count: int, language: int = 1) -> list[dict[str, Any]]:
    rows = []
    for number in range(first, first + count):
        seconds = 1 + number % 3 / 2
        rows.append(
            {
                "id": number,
                "num_samples": round(seconds * 16_000),
                "path": f"/somewhere/{number}.wav",
                "audio": clip(number, seconds),
                "transcription": f"mening {number}",
                "raw_transcription": f"Mening {number}.",
                "gender": number % 2,
                "lang_id": language,
                "language": ["German", "Swedish"][language],
                "lang_group_id": 0,
            }
        )
    return rows


def fleurs() -> Files:
    from datasets import Audio, ClassLabel, Features, Value

    features = Features(
        {
            "id": Value("int32"),
            "num_samples": Value("int32"),
            "path": Value("string"),
            "audio": Audio(16_000),
            "transcription": Value("string"),
            "raw_transcription": Value("string"),
            "gender": ClassLabel(names=["male", "female", "other"]),
            "lang_id": ClassLabel(names=["de_de", "sv_se"]),
            "language": Value("string"),
            "lang_group_id": ClassLabel(names=["western_european_we"]),
        }
    )
    shards = {
        "sv_se/train-00000-of-00002.parquet": fleurs_rows(0, 8),
        "sv_se/train-00001-of-00002.parquet": fleurs_rows(8, 7),
        "sv_se/validation-00000-of-00001.parquet": fleurs_rows(15, 4),
        "de_de/train-00000-of-00001.parquet": fleurs_rows(30, 2, language=0),
    }
    files = {name: parquet(features, rows) for name, rows in shards.items()}
    return files | {"README.md": card({"sv_se": ("train", "validation"), "de_de": ("train",)})}


def common_voice() -> Files:
    """Columns of other types, mp3, rows that cannot be used; every column but those that are read differs."""
    from datasets import Audio, Features, Value

    texts = ("client_id", "path", "sentence", "age", "gender", "accent", "locale", "segment")
    features = Features(
        {name: Value("string") for name in texts}
        | {"audio": Audio(48_000), "up_votes": Value("int64"), "down_votes": Value("int64")}
    )
    rows = [
        {
            "client_id": f"{number % 2:064x}",
            "path": f"common_voice_sv-SE_{number}.mp3",
            "sentence": f"Läs {number}!",
            "locale": "sv-SE",
            "audio": clip(100 + number, 1.5, "MP3", 48_000),
            "up_votes": 2,
        }
        for number in range(6)
    ]
    rows[1]["sentence"] = " "
    rows[2]["audio"] = None
    rows[3]["audio"] = {"bytes": b"no audio at all", "path": "x.mp3"}
    rows[4]["audio"] = clip(104, 30.5, "MP3", 48_000)
    return {
        "README.md": card({"sv-SE": ("train",)}),
        "sv-SE/train-00000-of-00002.parquet": parquet(features, rows[:4]),
        "sv-SE/train-00001-of-00002.parquet": parquet(features, rows[4:]),
    }


def voxpopuli() -> Files:
    """Language as a number with a name, FLAC, one configuration only, which the card calls default."""
    from datasets import Audio, ClassLabel, Features, Value

    texts = ("audio_id", "raw_text", "normalized_text", "gender", "speaker_id", "accent")
    features = Features(
        {name: Value("string") for name in texts}
        | {
            "language": ClassLabel(names=["en", "de", "fi"]),
            "audio": Audio(16_000),
            "is_gold_transcript": Value("bool"),
        }
    )
    rows = [
        {
            "audio_id": f"2009-{number}",
            "language": 2,
            "audio": clip(200 + number, 1.0, "FLAC"),
            "raw_text": f"Hyvää {number}.",
            "normalized_text": f"hyvää {number}.",
            "speaker_id": ["4398", "None"][number % 2],
            "is_gold_transcript": True,
            "accent": "None",
        }
        for number in range(4)
    ]
    return {
        "README.md": card({"default": ("test",)}),
        "default/test-00000-of-00002.parquet": parquet(features, rows[:2]),
        "default/test-00001-of-00002.parquet": parquet(features, rows[2:]),
    }
