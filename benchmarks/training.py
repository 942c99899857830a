"""Training speed against a Seq2SeqTrainer script, side by side in one run.

    python -m benchmarks.training --train DIR --dev DIR --language ln --baseline hf_seq2seq.py

Both see the same model, rows and utterances a step, one after the other on the same machine. The baseline is
any script with the options used below whose last line is one JSON object with `train_s_per_utterance`. It runs
first and last, for a few steps each, so that a machine whose speed drifts is seen to drift. Machines differ
and are shared: quote the ratio, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whispertune.model.load import find_model
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run


@dataclass(frozen=True)
class Sides:
    """Utterances a second of the two sides."""

    ours: float
    baseline: list[float]

    @property
    def ratios(self) -> list[float]:
        return [self.ours / each for each in self.baseline]


class Lines(Reporter):
    """A line now and then."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def step(self, report: StepReport) -> None:
        if report.step % 5 == 0:
            print(f"step {report.step}/{report.total_steps}, loss {report.loss:.2f}", file=sys.stderr, flush=True)


def run_baseline(options: argparse.Namespace, model: Path, out: Path) -> dict[str, Any]:
    """The other side, for a few steps; evaluation is cut to one row."""
    command = [
        *(sys.executable, str(options.baseline), "--model", str(model), "--train", str(options.train)),
        *("--dev", str(options.dev), "--language", options.language, "--batch", str(options.step)),
        *("--limit-train", str(options.step * options.baseline_steps), "--limit-dev", "1", "--epochs", "1"),
        *("--out", str(out)),
    ]
    print(" ".join(command), file=sys.stderr)
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def run_ours(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Our side, without evaluations: this measures training."""
    recipe = parse_recipe(
        {
            "model": options.model,
            "language": options.language,
            "data": {
                "train": [{"source": str(options.train), "limit_rows": options.step * options.steps}],
                "dev": [{"source": str(options.dev), "limit_rows": 1}],
            },
            "train": {"epochs": 1, "step_segments": options.step, "precision": options.precision},
            "evaluation": {"times": 0, "verify_clips": 0},
            "checkpoints": {"every_steps": 10_000},
        }
    )
    return fine_tune(recipe, Run(out), reporter=Lines()).as_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, required=True)
    parser.add_argument("--language", default="ln")
    parser.add_argument("--model", default="bundled:whisper-base")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--step", type=int, default=16, help="utterances a step, on both sides")
    parser.add_argument("--steps", type=int, default=20, help="steps of ours")
    parser.add_argument("--baseline-steps", type=int, default=2, help="steps of the baseline, before and after")
    options = parser.parse_args()
    model = find_model(options.model).path
    with tempfile.TemporaryDirectory() as folder:
        before = run_baseline(options, model, Path(folder) / "before")
        ours = run_ours(options, Path(folder) / "ours")
        after = run_baseline(options, model, Path(folder) / "after")
    sides = Sides(ours["utterances_per_second"], [1 / each["train_s_per_utterance"] for each in (before, after)])
    print(
        json.dumps(
            {
                "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                "precision": options.precision,
                "ours_utterances_per_second": sides.ours,
                "baseline_utterances_per_second": sides.baseline,
                "times_as_fast": sides.ratios,
            }
        )
    )


if __name__ == "__main__":
    main()
