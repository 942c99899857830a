"""`whispertune prepare` on 100 synthetic hours: hours a second, and the memory of all its processes together.

    python -m benchmarks.prepare --hours 100 --work DIR

The hours are stretches of some hundred files of noise that swells like speech, named again and again by a manifest
with offsets, 5 s a row; no two rows are alike. Memory is sampled ten times a second over the whole tree of
processes: RSS as the system adds it up (pages that processes share are counted in each of them).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
FILE_S = 60.0
ROW_S = 5.0
SAMPLE_EVERY_S = 0.1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """What the system says of one."""

    parent: int
    rss_bytes: int
    cpu_s: float  # its own and that of its children that have ended


def write_data(folder: Path, hours: float, files: int) -> None:
    """The files and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    time_s = np.arange(round(FILE_S * RATE_HZ)) / RATE_HZ
    swell = 0.5 + 0.5 * np.sin(9 * time_s) * np.sin(1.3 * time_s)
    for number in range(files):
        noise = np.convolve(rng.normal(0, 6000, len(time_s)), np.ones(6) / 6, "same")
        soundfile.write(folder / f"{number}.wav", (noise * swell).astype(np.int16), RATE_HZ, subtype="PCM_16")
    rows = round(hours * 3600 / ROW_S)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as manifest:
        for row in range(rows):
            lap, file = divmod(row, files)
            start_s = round((lap * 0.731) % (FILE_S - ROW_S), 3)
            text = f"rad {row} av {rows} i en lång lista"
            line = {"file_name": f"{file}.wav", "text": text, "start": start_s, "end": round(start_s + ROW_S, 3)}
            manifest.write(json.dumps(line) + "\n")


def write_recipe(folder: Path, data: Path) -> Path:
    """Rows lie on each other, so nothing is said of what comes before them."""
    path = folder / "recipe.toml"
    path.write_text(f'model = "none"\nlanguage = "sv"\n[[data.train]]\nsource = "{data}"\n', encoding="utf-8")
    return path


def tree(root: int) -> list[Process]:
    """A process and all below it, as they are now."""
    found: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            cpu_s = sum(int(ticks) for ticks in fields[11:15]) / TICKS_A_SECOND
            found[int(entry.name)] = Process(int(fields[1]), int(fields[21]) * PAGE_BYTES, cpu_s)
    children = defaultdict(list)
    for pid, process in found.items():
        children[process.parent].append(pid)
    below, reached = [root], []
    while below:
        pid = below.pop()
        if pid in found:
            reached.append(found[pid])
            below += children[pid]
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=100.0)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the data and the dataset")
    options = parser.parse_args()
    data, out = options.work / f"data-{options.hours:g}h", options.work / "dataset"
    if out.exists():
        parser.error(f"{out} is there already: remove it, so that all of it is written")
    if not (data / "metadata.jsonl").exists():
        write_data(data, options.hours, options.files)
    recipe = write_recipe(options.work, data)
    command = [sys.executable, "-m", "whispertune", "prepare", str(recipe), "--out", str(out)]
    command += ["--json", *(["--processes", str(options.processes)] if options.processes else [])]
    started, rss, cpu_s = time.monotonic(), [], 0.0
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while running.poll() is None:
        processes = tree(running.pid)
        rss.append(sum(each.rss_bytes for each in processes))
        cpu_s = max(cpu_s, sum(each.cpu_s for each in processes))
        time.sleep(SAMPLE_EVERY_S)
    seconds = time.monotonic() - started
    assert running.stdout is not None
    told = running.stdout.read().strip().splitlines()
    if running.returncode:
        sys.exit(running.returncode)
    hours = sum(split["hours"] for split in json.loads(told[-1])["splits"])
    quarters = [max(part) for part in np.array_split(np.array(rss), 4)]
    print(
        json.dumps(
            {
                "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                "hours": round(hours, 2),
                "seconds": round(seconds, 1),
                "hours_a_second": round(hours / seconds, 3),
                "cores_used": round(cpu_s / seconds, 2),
                "cpu_seconds_an_hour": round(cpu_s / hours, 2),
                "peak_rss_mb": round(max(rss) / 1e6),
                "peak_rss_mb_by_quarter": [round(each / 1e6) for each in quarters],
                "load_average": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
