"""The adapter of a run, in peft: what the run's merged weights decode, it decodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from peft import PeftModel

from whispertune.errors import InputError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.adapter import KEPT, is_adapter, keep_adapter, kept_base, read_adapter, write_adapter
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.transformers import write_folder, write_tokenizer
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.parameters import Choice, merged_state, prepare
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.peft import open_peft
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run

# peft 0.21 asks transformers 5.23 by a name that is going.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

METHODS: dict[str, dict[str, Any]] = {
    "the average of the last, of two layers": {
        "lora": {"rank": 4, "alpha": 8, "rslora": True, "targets": ["decoder.layers.*.fc1", "*.q_proj"]},
        "average": "last",
        "average_of": 2,
    },
    "a moving average of dora": {"lora": {"rank": 2, "dora": True}, "average": "ema", "ema_decay": 0.5},
}


def recipe_for(tiny: ModelFolder, noises: Path, train: dict[str, Any]) -> Recipe:
    return parse_recipe(
        {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(noises / "train")}], "dev": [{"source": str(noises / "dev")}]},
            "windows": {"fit_share": 0.0},
            "evaluation": {"times": 2, "verify_clips": 0},
            "train": {"epochs": 2, "step_segments": 4, "learning_rate": 3e-2, "precision": "float32"} | train,
        }
    )


def exported(source: ModelFolder, out: Path) -> Path:
    """A complete adapter folder."""
    out.mkdir()
    write_adapter(source.path, out, "float32")
    write_tokenizer(out, source.tokenizer_json, source.shape.n_mels)
    write_generation(out, source.generation, source.vocabulary)
    return out


def logits(model: Any) -> torch.Tensor:
    mel = torch.randn((1, 80, 3000), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model(input_features=mel, decoder_input_ids=torch.tensor([[50258, 50259, 1000]])).logits
    return found


@pytest.mark.parametrize("method", METHODS)
def test_what_a_run_kept_is_in_its_adapter(
    method: str, tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPERTUNE_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "run")
    result = fine_tune(recipe_for(tiny, noises, {"method": "lora"} | METHODS[method]), run)
    source = find_model(str(run.folder))
    out = exported(source, tmp_path / "out")
    assert kept_base(source.path) == str(tiny.path)
    assert is_adapter(out)
    assert not is_adapter(source.path)
    adapted, merged = PeftModel.from_pretrained(tiny.load(), str(out)).eval(), source.load()
    torch.testing.assert_close(logits(adapted), logits(merged), atol=1e-5, rtol=0)
    assert (logits(merged) - logits(tiny.load())).abs().max() > 1e-3, result.best_weights
    whole = Contents(merged_state(tiny.load()), tiny.shape, tiny.tokenizer_json, tiny.generation)
    found, expected = read_adapter(out, whole), merged_state(merged)
    assert found.generation == source.generation
    for name, array in expected.items():
        np.testing.assert_allclose(found.state[name], array, atol=2e-6, err_msg=name)


def test_a_run_that_trained_all_weights_has_none(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    fine_tune(recipe_for(tiny, noises, {"method": "full", "steps": 1}), run)
    assert not (run.model / KEPT).exists()
    with pytest.raises(InputError, match="--to transformers"):
        write_adapter(run.model, tmp_path, "float32")


def test_peft_decodes_real_speech_as_the_merged_weights_do(
    base: ModelFolder, english_read: Path, tmp_path: Path
) -> None:
    model = base.load()
    prepare(model, Choice("lora", targets=("decoder.layers.*.q_proj",), adapters=AdapterSettings(rank=4, alpha=8)))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=random) * 0.02)
    source = tmp_path / "source"
    write_folder(source, merged_state(model), base.shape, base.tokenizer_json, base.generation)
    keep_adapter(model, source, "bundled:whisper-base")
    folder = ModelFolder("source", source)
    runtime = open_peft(exported(folder, tmp_path / "out"))  # by the name of the base that it carries
    row = json.loads((english_read / "metadata.jsonl").read_text().splitlines()[-1])
    samples, _ = soundfile.read(english_read / row["file_name"], dtype="float32")
    clip = Clip(samples, "en", "transcribe")
    heard = runtime.hear(clip)
    assert runtime.name.startswith("peft 0.")
    assert heard == Transformers(folder).hear(clip)
    assert len(heard.tokens) > 10
