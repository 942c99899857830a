"""Between two models of one shape: the weights a share of the way from the one to the other.

check_mixable(base, tuned)                    # ModelError where they are not base and tuned of one kind
state = interpolated(base_state, tuned_state, 0.6)
put(model, state)                             # into a model in memory, in place

After Wortsman et al., "Robust fine-tuning of zero-shot models", 2022: fine-tuning moves weights so little that what
lies on the straight line between the two ends works too, and there much of what was forgotten is back before much of
what was learned is gone. Of a model that was tuned by LoRA the merged weights are base + scale * B A, so that the way
from base to tuned is the adapter's scale from 0 to what it was trained with. DoRA's are no such sum: they are mixed as
any other weights are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from whispertune.errors import ModelError
from whispertune.model.formats.transformers import token_names
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
    odd = sorted(base.keys() ^ tuned.keys())
    odd += [name for name in base.keys() & tuned.keys() if base[name].shape != tuned[name].shape]
    if odd:
        raise ModelError(
            f"the two models have not the same weights ({len(odd)} differ, {odd[0]} first)",
            fix="mix a tuned model with the one it was tuned from",
        )
    if share in (0.0, 1.0):  # a sum would make nan of what is not finite in the other
        chosen = tuned if share else base
        return {name: chosen[name].astype(np.float32) for name in base}
    own, others = np.float32(1.0 - share), np.float32(share)
    return {name: own * base[name].astype(np.float32) + others * tuned[name].astype(np.float32) for name in base}


def put(model: WhisperForConditionalGeneration, state: State) -> None:
    """Write weights by name into an ordinary model in memory, all of them, in place."""
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(state[name]))


def _unlike(base: ModelFolder, tuned: ModelFolder, why: str) -> ModelError:
    return ModelError(why, where=f"{base.name}, {tuned.name}", fix="mix a tuned model with the one it was tuned from")
