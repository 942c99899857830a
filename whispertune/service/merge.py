"""Several models of one kind in one: their weights, each times its share, as a model folder.

merged = merge(["run-1", "run-2", "run-3"], Path("mean"))                        # equal shares
merged = merge(["openai/whisper-small", "my-run"], Path("half"), weights=[0.5, 0.5])
merged.contexts                                                                   # on which it may be decoded

Adapters may be among them; they are merged into the models that they belong to first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from whispertune.decode.context import Mark
from whispertune.errors import InputError
from whispertune.files import writing
from whispertune.model.export import check_out
from whispertune.model.formats import adapter
from whispertune.model.formats.contents import Contents
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.merge import State, check_mixable, common_generation, summed
from whispertune.model.naming import last_part, public_name
from whispertune.model.parameters import merged_state
from whispertune.publish.origin import Origin
from whispertune.reporting import Reporter
from whispertune.service.mixed import write_mixed

WEIGHTS: Final = "merged"  # what the model says of itself
NEAR_ONE: Final = 1e-6  # what the shares may be from a whole


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written."""

    folder: Path
    models: tuple[str, ...]
    weights: tuple[float, ...]
    contexts: tuple[str, ...]
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """What `merge --json` prints."""
        return asdict(self) | {"folder": str(self.folder)}


def merge(
    models: Sequence[str],
    out: Path | None = None,
    *,
    weights: Sequence[float] | None = None,
    reporter: Reporter | None = None,
) -> Merged:
    """Write a model folder whose weights are the sum of those of the models, each times its share.

    Args:
        models: names of two or more: runs, folders, hub names, bundled ones, adapters.
        out: the folder to write, new or empty; by default here, named after the models.
        weights: a share for each, 1 together; equal shares where there are none.

    Raises:
        InputError: shares that do not fit, or a folder that is in use or cannot be written.
        ModelError: models that cannot be mixed.
    """
    shares = _shares(models, weights)
    target = out or default_folder(models)
    check_out(target)
    with writing(target):  # before the models are read
        target.resolve().parent.mkdir(parents=True, exist_ok=True)
    tell = reporter or Reporter()
    folders = [find_model(name) for name in models]
    first = folders[0]
    for other in folders[1:]:
        check_mixable(first, other)
    state = summed(_states(folders, tell), shares)
    generation = common_generation([each.generation for each in folders])
    contexts = _contexts(folders)
    contents = Contents(state, first.shape, first.tokenizer_json, generation)
    origin = {"models": [public_name(name) for name in models], "weights": shares}
    write_mixed(target, contents, Mark(contexts, WEIGHTS), origin, Origin.merged(tuple(map(Origin.of, models))))
    size = sum(path.stat().st_size for path in target.iterdir())
    return Merged(target, tuple(models), tuple(shares), contexts, size)


def default_folder(models: Sequence[str]) -> Path:
    """Where a mixture goes if nothing is said: beside where one stands."""
    return Path("-".join([*(last_part(name) for name in models), "merged"]))


def _shares(models: Sequence[str], weights: Sequence[float] | None) -> list[float]:
    """One for each model, 1 together."""
    if len(models) < 2:
        raise InputError("there is nothing to merge with", where=models[0] if models else None, fix=_other_way(models))
    if weights is None:
        return [1 / len(models)] * len(models)
    told = " ".join(f"{each:g}" for each in weights)
    if len(weights) != len(models):
        fix = "give a share for each, in their order"
        raise InputError(f"{len(weights)} shares ({told}) for {len(models)} models", where="--weights", fix=fix)
    if wrong := [each for each in weights if not 0 <= each <= 1]:  # nan too
        raise InputError(f"{wrong[0]:g} is not between 0 and 1", where="--weights", fix="--weights 0.7 0.3")
    if abs(math.fsum(weights) - 1) > NEAR_ONE:
        total = f"{told} are {math.fsum(weights):g} together"
        raise InputError(f"{total}, not 1", where="--weights", fix="--weights 0.7 0.3")
    return list(weights)


def _other_way(models: Sequence[str]) -> str:
    """What one model alone can be given to."""
    if not models:
        return "give two models or more"
    merges = f"whispertune export {models[0]} --to transformers"
    if (Path(models[0]).expanduser() / adapter.CONFIG).is_file():
        return f"an adapter is merged into its base by: {merges}"
    return f"give two models or more; if it is an adapter, it is merged into its base by: {merges}"


def _states(folders: Sequence[ModelFolder], tell: Reporter) -> Iterator[State]:
    for done, folder in enumerate(folders):
        tell.working("merging models", done, len(folders))
        yield merged_state(folder.load())  # float32, with the output weights, tied or not
    tell.working("merging models", len(folders), len(folders))


def _contexts(folders: Sequence[ModelFolder]) -> tuple[str, ...]:
    """On which all of them may be decoded."""
    contexts = [Mark.read(each.path).contexts for each in folders]
    return tuple(each for each in contexts[0] if all(each in others for others in contexts))
