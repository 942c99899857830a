"""A run as training leaves it, made in no time: for what is done with one afterwards.

run = finished_run(tmp_path / "my-run", tiny.path, noises, licence="apache-2.0")
read_facts(run)
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from whispertune.data.segments import Segment
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.retention import RetentionSet, changed, write_changes
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.recipe import Data, Lora, Recipe, SourceTable, Train
from whispertune.recipe_file import save_recipe
from whispertune.train.run import Run, write_json

STEP = {"kind": "step", "step": 40, "total_steps": 40, "epoch": 3.0, "loss": 0.2, "learning_rate": 0.0, "grad_norm": 1}
VERSIONS = {"whispertune": "0.1.0", "torch": "2.13.0"}
DROPPED = [{"source": "talks", "where": f"a.vtt:{n}", "reason": "too short", "detail": "0.1 s"} for n in range(3)]
RESULT: dict[str, Any] = {
    "steps": 40,
    "skipped_steps": 0,
    "seconds": 600.0,
    "seconds_all_sessions": 5400.0,
    "seconds_training": 3600.0,
    "speech_hours": 3.96,
    "best_step": 30,
    "best_weights": "average",
    "processes": 1,
    "parameters_trained": 590_000,
    "parameters": 72_600_000,
    "energy_kwh": 0.0421,
    "energy_method": "CPU measured",
    "co2_kg": 0.00126,
}


def finished_run(
    folder: Path,
    model: Path,
    data: Path,
    *,
    base: str = "bundled:whisper-base",
    language: str = "sv",
    task: Literal["transcribe", "translate"] = "transcribe",
    licence: str | None = None,
    counted: bool = False,
    test: bool = False,
) -> Run:
    """A LoRA run on `data`/train and `data`/dev, its figures those of texts with known errors."""
    run = Run(folder)
    folder.mkdir(parents=True)
    train = SourceTable(source=str(data / "train"), licence="cc-by-4.0")
    dev = (SourceTable(source=str(data / "dev")),)
    recipe = Recipe(
        name="noise",
        model=base,
        language=language,
        task=task,
        licence=licence,
        data=Data(train=(train,), dev=dev, test=dev if test else ()),
        train=Train(method="lora", lora=Lora(rank=8)),
    )
    save_recipe(recipe, run.resolved_recipe)
    mark: dict[str, Any] = {"versions": VERSIONS, "data_sha256": {}}
    if counted:
        mark["data"] = [{"split": "train", "index": 0, "rows": 1200, "seconds": 4752.0}]
        mark["machine"] = "8 cores, 31 GB; NVIDIA L4"
    write_json(folder / "run.json", mark)
    write_json(run.result, RESULT | {"run": str(folder)})
    run.metrics.write_text(json.dumps(STEP) + "\n", encoding="utf-8")
    run.dropped.write_text("".join(json.dumps(row) + "\n" for row in DROPPED), encoding="utf-8")
    shutil.copytree(model, run.model)
    told = ModelFolder(str(run.model), run.model)
    write_generation(run.model, told.generation.speaking(language, task), told.vocabulary)
    _evaluate(run, data / "dev", language, task, "test" if test else "dev")
    return run


def _evaluate(run: Run, dev: Path, language: str, task: str, split: str) -> None:
    rows = [json.loads(line) for line in (dev / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    segments = [
        Segment(f"metadata.jsonl:{number}", dev / row["file_name"], 0.0, 1.0 + number / 10, row["text"], language, task)
        for number, row in enumerate(rows, start=1)
    ]
    run.save_evaluation("base", of_texts(segments, lambda text: "nothing at all like it", split))
    run.save_evaluation("tuned", of_texts(segments, lambda text: text.replace("noise", "noises"), split))
    english = RetentionSet("english", tuple(replace(each, language="en") for each in segments))
    kept = of_texts(english.segments, str.upper, "retention").utterances
    lost = of_texts(english.segments, lambda text: text[:-3], "retention").utterances
    write_changes(run.folder / "evaluations" / "retention.json", [changed(english, kept, lost)])


def of_texts(segments: Any, write: Any, split: str) -> Evaluation:
    """An evaluation in which a model wrote what `write` makes of the reference."""
    found = [Hypothesis(each, write(each.text)) for each in segments]
    return evaluation_of(found, (), 12.0, "ctranslate2", "full").of(split, biased=split == "dev")
