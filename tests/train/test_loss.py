"""The loss of a step is transformers' own loss, however the step is split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from whispertune.data.audio import AudioReader
from whispertune.data.table import as_table
from whispertune.model import loss as loss_module
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.model.parameters import Choice, prepare
from whispertune.recipe_file import parse_recipe
from whispertune.service.data import read_data
from whispertune.train.feeding.plan import Plan, PlanSettings
from whispertune.train.feeding.splits import TokenCounter
from whispertune.train.feeding.supply import TableSupply
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run
from whispertune.windows.batches import Batch, LoadedWindow, collate, load_window
from whispertune.windows.labels import IGNORE
from whispertune.windows.pack import Limits


def first_step(data: Path, model: ModelFolder, reader: AudioReader, size: int, language: str = "ln") -> Batch:
    """The windows of the first step, as one batch."""
    found = read_data(str(data), model.vocabulary, model.generation, reader, language=language, limit_rows=40)
    supply = TableSupply("train.0", as_table(found.segments), Limits(), TokenCounter(model.vocabulary), seed=0)
    step = Plan([supply], PlanSettings(step_segments=None, step_windows=size), seed=0).step(0)
    windows = [load_window(planned, reader, model.vocabulary) for planned in step.windows]
    assert all(isinstance(window, LoadedWindow) for window in windows)
    return collate(windows, model.shape.n_mels, model.vocabulary.end)  # type: ignore[arg-type]


def test_real_weights_and_speech_against_transformers(base: ModelFolder, mboshi: Path, reader: AudioReader) -> None:
    batch = first_step(mboshi / "dev", base, reader, size=2)
    model = base.load()
    with torch.no_grad():
        theirs = model(batch.mel, decoder_input_ids=batch.inputs, labels=batch.targets).loss
        ours = SummedLoss(model)(batch) / (batch.targets != -100).sum()
    assert float(ours) == pytest.approx(float(theirs), abs=1e-4)
    assert 1 < float(theirs) < 10  # an unseen language, but text all the same


def flat(model: torch.nn.Module) -> torch.Tensor:
    """All gradients in one vector."""
    return torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])


def test_gradients_against_transformers(tiny_en: ModelFolder, english_read: Path, reader: AudioReader) -> None:
    """In float32 the same; in bfloat16 as near to those as transformers' own are."""
    batch = first_step(english_read, tiny_en, reader, size=1, language="en")

    def theirs(*, half: bool) -> torch.Tensor:
        model = tiny_en.load()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(batch.mel, decoder_input_ids=batch.inputs).logits
        torch.nn.functional.cross_entropy(logits[0].float(), batch.targets[0], reduction="sum").backward()
        return flat(model)

    def ours(precision: str) -> torch.Tensor:
        model = tiny_en.load()
        SummedLoss(model, precision)(batch).backward()
        return flat(model)

    exact = theirs(half=False)
    rounding = (theirs(half=True) - exact).norm() / exact.norm()
    assert (ours("float32") - exact).norm() < 1e-5 * exact.norm()
    assert (ours("bfloat16") - exact).norm() < 1.3 * rounding * exact.norm()
    assert rounding < 0.2


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_1_of_a_run_against_transformers(
    parts: int, tiny: ModelFolder, mboshi: Path, reader: AudioReader, tmp_path: Path
) -> None:
    batch = first_step(mboshi / "train", tiny, reader, size=4)
    with torch.no_grad():
        theirs = tiny.load()(batch.mel, decoder_input_ids=batch.inputs, labels=batch.targets).loss
    recipe = parse_recipe(
        {
            "model": str(tiny.path),
            "language": "ln",
            "data": {
                "train": [{"source": str(mboshi / "train"), "limit_rows": 40}],
                "dev": [{"source": str(mboshi / "dev"), "limit_rows": 2}],
            },
            "train": {"steps": 1, "step_windows": 4, "micro_windows": 4 // parts, "precision": "float32"},
            "evaluation": {"times": 0, "verify_clips": 0},
        }
    )
    run = Run(tmp_path / "run")
    fine_tune(recipe, run)
    step = next(json.loads(line) for line in run.metrics.read_text().splitlines())
    assert step["windows"] == 4
    assert step["loss"] == pytest.approx(float(theirs), abs=1e-4)


MEL = torch.randn(2, 80, 200, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, 50_000, (2, 30), generator=torch.Generator().manual_seed(2))


def gradients(module: SummedLoss, targets: torch.Tensor = TOKENS) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of one backward pass."""
    module.zero_grad()
    loss = module(Batch(MEL, TOKENS, targets))
    loss.backward()
    return loss.item(), [value.grad for value in module.parameters() if value.grad is not None]


def test_smoothing_spreads_what_is_aimed_at_and_nothing_else(tiny: ModelFolder) -> None:
    targets = TOKENS.clone()
    targets[:, ::3] = IGNORE
    model = tiny.load()
    module = SummedLoss(model, label_smoothing=0.1)
    with torch.no_grad():
        logits = model(torch.nn.functional.pad(MEL, (0, 2800)), decoder_input_ids=TOKENS).logits
        loss = module(Batch(torch.nn.functional.pad(MEL, (0, 2800)), TOKENS, targets))
    logs = torch.log_softmax(logits, -1)[targets != IGNORE]
    aimed = logs.gather(1, targets[targets != IGNORE][:, None])
    assert loss.item() == pytest.approx(float(-0.9 * aimed.sum() - 0.1 * logs.mean(1).sum()), rel=1e-5)


@pytest.mark.parametrize("tokens", [1, 7, 30, 59])
def test_logits_in_chunks_change_nothing(tiny: ModelFolder, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SummedLoss(tiny.load(), label_smoothing=0.1)
    whole, expected = gradients(module)
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", tokens)
    chunked, found = gradients(module)
    assert chunked == pytest.approx(whole, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-5 * max(1.0, float(other.norm()))


def test_a_batch_without_targets_has_a_gradient_of_zeros(tiny: ModelFolder) -> None:
    """A rank may have nothing to learn from, while the others wait for its gradients."""
    module = SummedLoss(tiny.load())
    loss, found = gradients(module, torch.full_like(TOKENS, IGNORE))
    assert loss == 0
    assert len(found) == sum(value.requires_grad for value in module.parameters())
    assert not any(value.any() for value in found)


@pytest.mark.parametrize("freeze", [("encoder",), ("encoder.conv*", "encoder.layers.0")])
def test_kept_states_stand_in_for_the_mel(freeze: tuple[str, ...], tiny: ModelFolder) -> None:
    model = tiny.load(dropout=0.1)
    prepare(model, Choice(freeze=freeze))
    module = SummedLoss(model, "bfloat16").train()
    states = module.prefix(MEL)
    assert states.dtype == torch.bfloat16
    assert torch.equal(states, module.prefix(MEL))
    torch.manual_seed(0)
    from_mel = module(Batch(MEL, TOKENS, TOKENS))
    torch.manual_seed(0)
    from_states = module(Batch(None, TOKENS, TOKENS, states))
    from_states.backward()
    assert from_states.item() == pytest.approx(from_mel.item(), rel=1e-3)
    trained = [value for value in module.parameters() if value.requires_grad]
    assert all(value.grad is not None for value in trained)
    with pytest.raises(ValueError, match="all have mels"):
        module(Batch(None, TOKENS, TOKENS))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near(precision: str, tiny: ModelFolder) -> None:
    expected, _ = gradients(SummedLoss(tiny.load()))
    loss, found = gradients(SummedLoss(tiny.load(), precision))
    assert loss == pytest.approx(expected, rel=0.01)
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in found)
