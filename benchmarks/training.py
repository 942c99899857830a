"""Training speed against a Seq2SeqTrainer script, side by side in one run, and against what the machine can do.

    python -m benchmarks.training short frozen --train DIR --dev DIR --language ln --baseline hf_seq2seq.py
    python -m benchmarks.training frozen uncached --train DIR --dev DIR --shape large-v3-turbo

Both sides see the same model, rows and utterances a step, one after the other on the same machine. The baseline is
any script with the options used below whose last line is one JSON object with `train_s_per_utterance`. It runs
before and after our cases, for a few steps each, so that a machine whose speed drifts is seen to drift. Machines
differ and are shared: quote the ratio, not the seconds.

The floor is what products of matrices alone would take: operations counted in a few steps of ours, over the rate at
which this machine multiplies large matrices.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from benchmarks.floor import matrix_rate, operations
from benchmarks.shapes import SHAPES, random_model
from whispertune.model.load import find_model
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

COUNTED_STEPS = 4  # in which operations are counted

Rows = dict[float | None, Path]  # folders, by how long their utterances were joined to be


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    what: str
    train: dict[str, Any] = field(default_factory=dict)
    windows: dict[str, Any] = field(default_factory=dict)
    joined_s: float | None = None  # utterances are joined to about so long
    epochs: int = 1
    from_epoch: float = 0.0  # steps that end later count


PACKED, CUT = {"fit_share": 0.0}, {"fit_share": 1.0}
FROZEN, NOTHING_KEPT = {"freeze": ["encoder"]}, {"freeze": ["encoder"], "cache_gb": 0.0}

CASES = {
    "short": Case("3 s utterances, full"),
    "packed": Case("3 s utterances, full, packed windows alone", windows=PACKED),
    "fit": Case("3 s utterances, full, cut windows alone", windows=CUT),
    "lora": Case("3 s utterances, LoRA, packed windows", {"method": "lora"}, PACKED),
    "frozen": Case(
        "3 s utterances, frozen encoder, packed windows, from the second epoch", FROZEN, PACKED, epochs=3, from_epoch=1
    ),
    "uncached": Case("3 s utterances, frozen encoder, packed windows, nothing kept", NOTHING_KEPT, PACKED),
    "frozen_fit": Case(
        "3 s utterances, frozen encoder, cut windows, from the second epoch", FROZEN, CUT, epochs=3, from_epoch=1
    ),
    "uncached_fit": Case("3 s utterances, frozen encoder, cut windows, nothing kept", NOTHING_KEPT, CUT),
    "joined": Case("12 s utterances, full", joined_s=12.0),
}


@dataclass(frozen=True)
class Ours:
    """What our side did in the steps that count."""

    utterances_per_second: float
    seconds_per_step: float
    operations_per_step: float


class Lines(Reporter):
    """A line now and then."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def step(self, report: StepReport) -> None:
        if report.step % 5 == 0:
            print(f"step {report.step}/{report.total_steps}, loss {report.loss:.2f}", file=sys.stderr, flush=True)


def join_rows(source: Path, out: Path, seconds: float, rows: int) -> None:
    """Utterances of about `seconds`, each made of several that follow each other in the metadata."""
    out.mkdir(parents=True)
    known = [json.loads(line) for line in (source / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    written: list[str] = []
    samples: list[Any] = []
    texts: list[str] = []
    for row in known:
        audio, rate = soundfile.read(source / row["file_name"], dtype="float32")
        samples.extend(audio)
        texts.append(row["text"])
        if len(samples) >= seconds * rate:
            name = f"{len(written)}.wav"
            soundfile.write(out / name, samples[: 30 * rate], rate)
            written.append(json.dumps({"file_name": name, "text": " ".join(texts)}, ensure_ascii=False))
            samples, texts = [], []
        if len(written) == rows:
            break
    (out / "metadata.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")


def run_baseline(options: argparse.Namespace, train: Path, model: Path, out: Path) -> float:
    """Utterances a second of the other side, in a few steps; its evaluation is cut to one row."""
    command = [
        *(sys.executable, str(options.baseline), "--model", str(model), "--train", str(train)),
        *("--dev", str(options.dev), "--language", options.language, "--batch", str(options.step)),
        *("--limit-train", str(options.step * options.baseline_steps), "--limit-dev", "1", "--epochs", "1"),
        *("--out", str(out)),
    ]
    print(" ".join(command), file=sys.stderr)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return 1 / float(json.loads(done.stdout.strip().splitlines()[-1])["train_s_per_utterance"])


def run_ours(options: argparse.Namespace, case: Case, train: Path, out: Path) -> Ours:
    """Our side, without evaluations: this measures training."""

    def tune(name: str, steps: int | None) -> Run:
        run = Run(out / name)
        fine_tune(_recipe(options, case, train, steps), run, reporter=Lines())
        return run

    lines = [line for line in tune("run", None).read_metrics() if line["kind"] == "step"]
    steps = [line for line in lines if line["epoch"] > case.from_epoch]
    seconds = sum(line["seconds"] for line in steps)
    counted = operations(lambda: tune("counted", COUNTED_STEPS)) / COUNTED_STEPS  # last: states are kept by now
    shutil.rmtree(out)  # a large model's runs fill a disk
    return Ours(sum(line["segments"] for line in steps) / seconds, seconds / len(steps), counted)


def _recipe(options: argparse.Namespace, case: Case, train: Path, steps: int | None) -> Any:
    rows = options.step * options.steps
    length = {"steps": steps} if steps else {"epochs": case.epochs}
    return parse_recipe(
        {
            "model": options.model,
            "language": options.language,
            "data": {
                "train": [{"source": str(train), "limit_rows": rows}],
                "dev": [{"source": str(options.dev), "limit_rows": 1}],
            },
            "windows": case.windows,
            "train": {"step_segments": options.step, "precision": options.precision, **length, **case.train},
            "evaluation": {"times": 0, "verify_clips": 0},
            "checkpoints": {"every_steps": 10_000},
        }
    )


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WHISPERTUNE_CACHE"] = str(folder / "cache")  # no states of earlier runs
        if options.shape:
            options.model = random_model(options.shape, folder / "model", find_model(options.model)).name
        model, cases = find_model(options.model).path, [CASES[each] for each in options.cases]
        train = {seconds: _rows(options, seconds, folder) for seconds in {case.joined_s for case in cases}}
        before = _baselines(options, train, model, folder / "before")
        ours = [run_ours(options, case, train[case.joined_s], folder / str(n)) for n, case in enumerate(cases)]
        after = _baselines(options, train, model, folder / "after")
    _tell(options, cases, ours, [before, after])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", choices=CASES, nargs="+")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, help="without it, ours alone is measured")
    parser.add_argument("--language", default="ln")
    parser.add_argument("--model", default="bundled:whisper-base")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape, with the model's vocabulary")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--step", type=int, default=16, help="utterances a step, on both sides")
    parser.add_argument("--steps", type=int, default=20, help="steps of ours, in an epoch")
    parser.add_argument("--baseline-steps", type=int, default=2, help="steps of the baseline, before and after")
    return parser.parse_args()


def _rows(options: argparse.Namespace, joined_s: float | None, folder: Path) -> Path:
    """The rows as they are, or joined."""
    if joined_s is None:
        return Path(options.train)
    join_rows(options.train, folder / "joined", joined_s, options.step * options.steps)
    return folder / "joined"


def _baselines(options: argparse.Namespace, train: Rows, model: Path, folder: Path) -> dict[float | None, float]:
    """Utterances a second of the other side on each kind of rows."""
    if options.baseline is None:
        return {}
    return {seconds: run_baseline(options, rows, model, folder / str(seconds)) for seconds, rows in train.items()}


def _tell(
    options: argparse.Namespace, cases: list[Case], ours: list[Ours], sides: list[dict[float | None, float]]
) -> None:
    """A line of JSON for each case."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rate = max(matrix_rate(device, dtype) for dtype in (torch.bfloat16, torch.float32))
    for case, found in zip(cases, ours, strict=True):
        theirs = [side[case.joined_s] for side in sides if side]
        line = {
            "case": case.what,
            "model": options.shape or options.model,
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {device}",
            "precision": options.precision,
            "ours_utterances_per_second": found.utterances_per_second,
            "baseline_utterances_per_second": theirs,
            "times_as_fast": [found.utterances_per_second / each for each in theirs],
            "seconds_per_step": found.seconds_per_step,
            "operations_per_step": found.operations_per_step,
            "matrix_rate": rate,
            "share_of_the_possible": found.operations_per_step / rate / found.seconds_per_step,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
