"""A manifest of a million rows: how long until training can start, and how much memory that takes.

    python -m benchmarks.scale --rows 1000000

Makes a NeMo manifest that states durations, over short recordings that exist (hard links to a few hundred, so that
every row names a file of its own), and a tiny random Whisper. Then, each in a process of its own:

- ready: from the start of Python to a plan of all steps (the manifest read, cleaned, checked against dev);
- first batch: from the start of Python to the first step's windows decoded, as tensors.

Peak memory is the resident set of that process and of the process that decodes for it. Machines differ and are
shared: what counts is the order of magnitude.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from whispertune.recipe_file import parse_recipe, save_recipe

RECORDINGS = 500
WORDS = [
    "rain",
    "hills",
    "stayed",
    "inside",
    "until",
    "evening",
    "stopped",
    "again",
    "good",
    "came",
    "over",
    "when",
    "for",
]


def make_manifest(folder: Path, rows: int) -> None:
    """`rows` lines over as many names of `RECORDINGS` recordings, 500 names to a folder; and a small dev set."""
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1.0, 9.0, RECORDINGS).round(2)
    (folder / "made").mkdir()
    for number, length_s in enumerate(seconds):
        noise = 0.1 * rng.standard_normal(round(16_000 * length_s))
        soundfile.write(folder / "made" / f"{number}.flac", noise, 16_000)
    with (folder / "train.jsonl").open("w") as lines:
        for row in range(rows):
            if row % 500 == 0:
                part = f"clips/{row // 500:05}"
                (folder / part).mkdir(parents=True)
            number = row % RECORDINGS
            name = f"{part}/{row}.flac"
            os.link(folder / "made" / f"{number}.flac", folder / name)
            text = (
                " ".join(WORDS[(row * 7 + word) % len(WORDS)] for word in range(2 + round(1.5 * seconds[number])))
                + f" {row}"
            )
            lines.write(json.dumps({"audio_filepath": name, "duration": float(seconds[number]), "text": text}) + "\n")
    with (folder / "dev.jsonl").open("w") as lines:
        for row in range(20):
            soundfile.write(folder / "made" / f"dev-{row}.flac", 0.1 * rng.standard_normal(48_000), 16_000)
            line = {"audio_filepath": f"made/dev-{row}.flac", "duration": 3.0, "text": f"only in dev, number {row}"}
            lines.write(json.dumps(line) + "\n")


def make_model(folder: Path) -> None:
    """A tiny random Whisper with the real tokenizer."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from whispertune.model.formats.transformers import Shape, config_for, write_folder
    from whispertune.model.load import find_model
    from whispertune.model.parameters import merged_state

    base = find_model("bundled:whisper-base")
    torch.manual_seed(0)
    shape = Shape(base.shape.vocabulary, 80, 16, 1, 1, 2, 2, 32, 32)
    model = WhisperForConditionalGeneration(config_for(shape, base.vocabulary))
    write_folder(folder, merged_state(model), shape, base.tokenizer_json, base.generation)


def measure(recipe_path: Path, *, batch: bool) -> dict[str, float]:
    """What one process takes; called in it."""
    from whispertune.data.audio import AudioReader
    from whispertune.model.load import find_model
    from whispertune.recipe_file import load_recipe
    from whispertune.train.feeding.feed import Feed
    from whispertune.train.feeding.mixture import make_plan
    from whispertune.train.feeding.splits import TokenCounter, load_splits
    from whispertune.windows.batches import collate
    from whispertune.windows.pack import Limits

    recipe = load_recipe(recipe_path)
    with AudioReader() as reader:
        folder = find_model(recipe.model)
        count_tokens = TokenCounter(folder.vocabulary)
        splits = load_splits(recipe, folder.vocabulary, reader, count_tokens, Limits())
        splits.fingerprints()
        plan = make_plan(recipe, splits, Limits(), folder.vocabulary, count_tokens)
        if batch:
            with Feed(plan, reader, folder.vocabulary, language_loss=True) as feed:
                windows = feed.take(0).windows
                collate(windows, folder.shape.n_mels, folder.vocabulary.end)
        peak = sum(_peak_kb(pid) for pid in (os.getpid(), *reader.pids))
    return {"peak_mb": round(peak / 1024), "cpu_seconds": round(time.process_time(), 2), "steps": plan.total_steps or 0}


def _peak_kb(pid: int) -> int:
    """The most memory a running process has had resident (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep what is made here, and use it again")
    parser.add_argument("--measure", choices=["ready", "batch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.work / "recipe.toml", batch=options.measure == "batch")))
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        if not (work / "recipe.toml").exists():
            work.mkdir(parents=True, exist_ok=True)
            make_manifest(work, options.rows)
            make_model(work / "model")
            data = {split: [{"source": str(work / f"{split}.jsonl")}] for split in ("train", "dev")}
            save_recipe(
                parse_recipe({"model": str(work / "model"), "language": "en", "data": data}), work / "recipe.toml"
            )
        result: dict[str, object] = {"rows": options.rows, "cpus": os.cpu_count()}
        for what in ("ready", "batch"):
            command = [sys.executable, "-m", "benchmarks.scale", "--measure", what, "--work", str(work)]
            runs = []
            for _ in range(options.repeat):
                began = time.perf_counter()
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                runs.append({**found, "seconds": round(time.perf_counter() - began, 2)})  # Python's own start too
            result[what] = runs
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
