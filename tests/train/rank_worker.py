"""What each process of a test with several ranks does; started by torchrun, writes what it saw to a file.

torchrun --nproc-per-node 2 tests/train/rank_worker.py <spec.json> <folder>
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from whispertune.data.audio import AudioReader
from whispertune.errors import DataError, Interrupted, WhispertuneError
from whispertune.model.encoder import swap_encoder
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.loss import SummedLoss
from whispertune.recipe import Recipe
from whispertune.recipe_file import parse_recipe
from whispertune.train.across.ranks import Ranks, Sharding, open_ranks
from whispertune.train.across.wrapped import Wrapped, blank_batch
from whispertune.train.feeding.feed import LoadedStep
from whispertune.train.feeding.mixture import make_plan
from whispertune.train.feeding.splits import TokenCounter, load_splits
from whispertune.train.learning.optimizers import make_optimizer
from whispertune.windows.batches import LoadedWindow, collate_lengths, load_window
from whispertune.windows.pack import Limits

PART_S = 4.0  # so little that a step has several parts, and ranks have unlike numbers of them


@dataclass
class Trained:
    """What some steps came to."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seen: list[list[str]] = field(default_factory=list)  # ids of each step, over all ranks
    parts: list[list[int]] = field(default_factory=list)  # of each step, by rank
    state: dict[str, Any] = field(default_factory=dict)  # whole, on the main rank
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # of the whole model, on the main rank


class Runs:
    """Trains a few steps at a time as the loop does it, without all that is no matter of ranks."""

    def __init__(self, recipe: Recipe, folder: ModelFolder, load: Callable[[int], LoadedStep]) -> None:
        self.recipe, self.folder, self.load = recipe, folder, load

    def train(
        self,
        ranks: Ranks,
        steps: range,
        state: Path | None = None,
        *,
        lora: bool = False,
        optimizer: str = "adamw",
    ) -> Trained:
        """A resumed run gives the file of its state; only the main rank reads it."""
        wrapped = ranks.wrap(self._module(ranks.precision, lora))
        trained = {name: value for name, value in wrapped.inner.named_parameters() if value.requires_grad}
        made = make_optimizer(trained.items(), optimizer, 1e-3, 0.01)
        if state is not None:
            read = torch.load(state, weights_only=True)["state"] if ranks.main else None
            own = ranks.together(lambda: wrapped.own(read))
            made.load_state_dict(own["optimizer"])
            with torch.no_grad():
                for name, value in trained.items():
                    value.copy_(own["weights"][name])
        result = Trained()
        for index in steps:
            self._step(wrapped, made, index, result)
        result.state = {"weights": wrapped.full(trained), "optimizer": wrapped.full(made.state_dict())}
        plain = wrapped.plain()
        if plain is not None:
            result.weights = {name: value.detach().cpu() for name, value in plain.named_parameters()}
        return result

    def _module(self, precision: str, lora: bool) -> SummedLoss:
        model = self.folder.load(self.recipe.train.dropout)
        swap_encoder(model)
        if lora:
            from peft import LoraConfig, inject_adapter_in_model

            torch.manual_seed(1)
            model = inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), model)
            for name, value in model.named_parameters():
                value.requires_grad = "lora_" in name
        return SummedLoss(model, precision)

    def _step(self, wrapped: Wrapped, optimizer: torch.optim.Optimizer, index: int, result: Trained) -> None:
        ranks, step, n_mels = wrapped.ranks, self.load(index), self.folder.shape.n_mels
        (tokens,) = ranks.sum(step.target_tokens)
        ranks.seed_dropout(self.recipe.seed, index)
        parts, loss = step.parts(PART_S, mixed=not ranks.sharded), 0.0
        wrapped.outer.train()
        for part, last in ranks.rounds(parts):
            blank = [blank_batch(n_mels, ranks.device)]
            batches = collate_lengths(part, n_mels, self.folder.vocabulary.end) if part else blank
            with wrapped.exchanging(last):
                part_loss = wrapped(*batches) * bool(part) / tokens
                wrapped.backward(part_loss)
            loss += part_loss.item()
        result.losses += ranks.sum(loss)
        result.norms.append(wrapped.clip(optimizer, 1.0))
        wrapped.update(optimizer)
        optimizer.zero_grad()
        ids = [segment.id for window in step.windows for segment in window.segments]
        result.seen.append(sorted(each for found in ranks.gather(ids) for each in found))
        result.parts.append(ranks.gather(len(parts)))


@contextmanager
def open_runs(spec: dict[str, Any], rank: int, count: int) -> Iterator[Runs]:
    """With the data of one rank."""
    recipe = parse_recipe(spec["recipe"])
    folder = find_model(recipe.model)
    limits = Limits(recipe.windows.max_tokens, recipe.windows.max_gap_s, recipe.windows.max_lead_s)
    counter = TokenCounter(folder.vocabulary)
    with AudioReader(children=1) as reader:
        splits = load_splits(recipe, folder.vocabulary, reader, counter, limits)
        plan = make_plan(recipe, splits, limits, folder.vocabulary, counter, rank, count)

        def load(index: int) -> LoadedStep:
            loaded = [load_window(each, reader, folder.vocabulary) for each in plan.step(index).windows]
            return LoadedStep(tuple(each for each in loaded if isinstance(each, LoadedWindow)), (), None)

        yield Runs(recipe, folder, load)


def keep(result: Trained, path: Path) -> dict[str, Any]:
    """Tensors to a file, the rest to be told."""
    torch.save({"state": result.state, "weights": result.weights}, path)
    return {"losses": result.losses, "norms": result.norms, "seen": result.seen, "parts": result.parts}


def words(ranks: Ranks) -> dict[str, Any]:
    """Everything that ranks tell each other."""
    own = ranks.rank
    return {
        "sum": ranks.sum(1.5 + own, 10.0),
        "any": [ranks.any(own == 1), ranks.any(False)],
        "most": ranks.most(3 - own),
        "gather": ranks.gather(f"rank {own}"),
        "broadcast": ranks.broadcast({"of": own}),
        "on_main": ranks.on_main(lambda: f"decided by {own}"),
    }


class HeldError(DataError):
    """What cannot be sent to another process."""

    def __init__(self, what: str) -> None:
        super().__init__(what, where="a row")
        self.held = lambda: None


def errors(ranks: Ranks) -> list[list[Any]]:
    """What this rank raises where one fails."""

    def fail(who: int, error: Exception) -> None:
        if ranks.rank == who:
            raise error

    attempts: list[Callable[[], object]] = [
        lambda: ranks.together(lambda: fail(1, DataError("no audio", where="row 7", fix="look at it"))),
        lambda: ranks.on_main(lambda: fail(0, Interrupted("stopped", fix="--resume"))),
        lambda: ranks.together(lambda: fail(1, ZeroDivisionError("a fault"))),
        lambda: ranks.together(lambda: fail(0, HeldError("held"))),
    ]
    found: list[list[Any]] = []
    for attempt in attempts:
        try:
            attempt()
        except WhispertuneError as error:
            found.append([type(error).__name__, error.what, error.where, error.fix, error.exit_code])
        except Exception as error:
            found.append([type(error).__name__, str(error)])
    return [*found, ["in step", *ranks.gather(ranks.rank)]]


def main(spec: dict[str, Any], folder: Path) -> None:
    from torch.distributed.fsdp import OffloadPolicy

    with open_ranks("float32") as ranks, open_runs(spec, ranks.rank, ranks.count) as runs:
        told: dict[str, Any] = {"words": words(ranks), "errors": errors(ranks)}
        sharing = replace(ranks, sharded=Sharding(reshard_after_forward=True, offload=OffloadPolicy()))
        begun, first, rest = folder / "one.pt", range(2), range(2, 4)
        jobs: dict[str, Callable[[], Trained]] = {
            "ddp": lambda: runs.train(ranks, first),
            "ddp resumed": lambda: runs.train(ranks, rest, begun),
            "fsdp": lambda: runs.train(sharing, first),
            "fsdp resumed": lambda: runs.train(sharing, rest, begun),
            "fsdp lora": lambda: runs.train(sharing, first, lora=True),
            "fsdp muon": lambda: runs.train(sharing, first, optimizer="muon"),
            "fsdp bfloat16": lambda: runs.train(replace(sharing, precision="bfloat16"), first),
        }
        for name, job in jobs.items():
            result = job()
            told[name] = keep(result, folder / f"{name}.pt") if ranks.main else len(result.weights)
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
