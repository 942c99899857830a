"""Between models of one shape: the weights a share of the way from the one to the other, or a mean of several.

check_mixable(base, tuned)                    # ModelError where they are not base and tuned of one kind
state = interpolated(base_state, tuned_state, 0.6)
state = summed((one, two, three), (0.5, 0.3, 0.2))
put(model, state)                             # into a model in memory, in place

After Wortsman et al., "Robust fine-tuning of zero-shot models", 2022: fine-tuning moves weights so little that what
lies on the straight line between the two ends works too, and there much of what was forgotten is back before much of
what was learned is gone. Of a model that was tuned by LoRA the merged weights are base + scale * B A, so that the way
from base to tuned is the adapter's scale from 0 to what it was trained with. DoRA's are no such sum: they are mixed as
any other weights are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from whispertune.errors import ModelError
from whispertune.model.formats.transformers import token_names
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

State = Mapping[str, np.ndarray]


def check_mixable(base: ModelFolder, tuned: ModelFolder) -> None:
    """Raise ModelError where the two differ in shape or in their tokens: their weights then mean different things."""
    if base.shape != tuned.shape:
        raise _unlike(base, tuned, f"their shapes differ: {base.shape} and {tuned.shape}")
    ours, theirs = token_names(base.tokenizer_json), token_names(tuned.tokenizer_json)
    if ours != theirs:
        first = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        where = f"token {first} first" if first is not None else f"{len(ours)} and {len(theirs)} tokens"
        raise _unlike(base, tuned, f"their tokenizers differ ({where})")


def interpolated(base: State, tuned: State, share: float) -> dict[str, np.ndarray]:
    """The weights `share` of the way from base (0) to tuned (1), float32; each end is exactly itself.

    Raises:
        ModelError: the two have not the same weights.
    """
    return summed((base, tuned), (1.0 - share, share))


def summed(states: Iterable[State], shares: Sequence[float]) -> dict[str, np.ndarray]:
    """The sum of models, each times its share, float32; they are taken one after the other, so memory holds two.

    Raises:
        ModelError: they have not the same weights.
    """
    total: dict[str, np.ndarray] = {}
    first: dict[str, tuple[int, ...]] = {}
    for state, share in zip(states, shares, strict=True):
        found = {name: array.shape for name, array in state.items()}
        first = first or found
        _check_same(first, found)
        if not share:  # a sum would make nan of what is not finite in it
            continue
        for name, array in state.items():
            part = np.float32(share) * array.astype(np.float32)
            total[name] = total[name] + part if name in total else part
    return total


def _check_same(first: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> None:
    odd = sorted(first.keys() ^ other.keys())
    odd += sorted(name for name in first.keys() & other.keys() if first[name] != other[name])
    if odd:
        raise ModelError(
            f"the two models have not the same weights ({len(odd)} differ, {odd[0]} first)",
            fix="mix a tuned model with the one it was tuned from",
        )


def common_generation(settings: Sequence[Generation]) -> Generation:
    """Of a mixture: nothing is suppressed that one of its models may write; otherwise as the first.

    It is for a language, or a task, where all that name one name the same.
    """
    first = settings[0]
    languages = {each.language for each in settings} - {None}
    tasks = {each.task for each in settings} - {None}
    return replace(
        first,
        suppress=_in_all([each.suppress for each in settings]),
        begin_suppress=_in_all([each.begin_suppress for each in settings]),
        language=languages.pop() if len(languages) == 1 else None,
        task=tasks.pop() if len(tasks) == 1 else None,
    )


def _in_all(lists: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    kept = set(lists[0]).intersection(*lists)
    return tuple(token for token in lists[0] if token in kept)


def put(model: WhisperForConditionalGeneration, state: State) -> None:
    """Write weights by name into an ordinary model in memory, all of them, in place."""
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(state[name]))


def _unlike(base: ModelFolder, tuned: ModelFolder, why: str) -> ModelError:
    return ModelError(why, where=f"{base.name}, {tuned.name}", fix="mix a tuned model with the one it was tuned from")
