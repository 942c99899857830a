"""Low-rank adapters as peft keeps them: adapter_config.json and adapter_model.safetensors, without the base.

    keep_adapter(model, run.model, recipe.model)       # beside the merged weights that a run writes
    keep_copy(folder, out, base_name(folder))          # the same of an adapter folder, beside what it was merged to
    write_adapter(run.model, out, "float32")           # what PeftModel.from_pretrained takes
    base = find_model(base_name(folder))               # of an adapter folder, ours or another's
    contents = read_adapter(folder, base_contents)     # merged into the weights of its base

A merged weight is W + s * B A, with s the adapter's scale; under DoRA each of its rows is then as long as the
adapter says. What peft does to a base while it loads an adapter (PiSSA and the like) is not done here, but refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from whispertune.errors import InputError, ModelError
from whispertune.model.cache import cache_folder
from whispertune.model.formats.contents import FLOATS, Contents
from whispertune.model.formats.known_tokenizers import generation_beside, tokenizer_beside
from whispertune.model.formats.pickles import read_tensors
from whispertune.model.formats.tied import without_tied
from whispertune.model.naming import hub_name, offline_name, public_name

if TYPE_CHECKING:
    import torch
    from transformers import WhisperForConditionalGeneration

KEPT: Final = "adapter.safetensors"  # in a run's model folder; under peft's names transformers would load it too
WEIGHTS, PICKLED, CONFIG = "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"
WHOLE_WEIGHTS: Final = ("model*.safetensors", "pytorch_model*.bin", "model.bin")
PREFIX: Final = "base_model.model."  # peft's, before the names of the model

# What the name of an adapter's array ends in -> its part of the sum; some versions write the last one, others not.
PARTS: Final = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_magnitude_vector": "lengths",
    ".lora_magnitude_vector.weight": "lengths",
}
# Settings of peft under which a merged weight is another sum than the one above.
OTHER_SUMS: Final = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
PLAIN_BEGINNINGS: Final = (True, False, None, "gaussian", "eva", "orthogonal")  # that leave the base as it is


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Of adapter_config.json what an adapter is merged by; the rest has peft's defaults."""

    base_model_name_or_path: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)  # regular expression of a layer's name -> rank
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Any, where: str) -> AdapterConfig:
        """From the content of adapter_config.json.

        Raises:
            ModelError: it is none of LoRA, or one that is merged in another way.
        """
        try:
            if content["peft_type"] != "LORA":
                raise _refused(f"adapters of the kind {content['peft_type']!r} cannot be merged here", where)
            if odd := [name for name in OTHER_SUMS if content.get(name)]:
                raise _refused(f"adapters with {odd[0]} cannot be merged here", where)
            if content.get("init_lora_weights", True) not in PLAIN_BEGINNINGS:
                how = content["init_lora_weights"]
                raise _refused(f"an adapter that began as {how!r} needs a base that was changed with it", where)
            return cls(
                base_model_name_or_path=str(content.get("base_model_name_or_path") or ""),
                r=int(content["r"]),
                lora_alpha=float(content["lora_alpha"]),
                use_rslora=bool(content.get("use_rslora")),
                use_dora=bool(content.get("use_dora")),
                rank_pattern={str(key): int(value) for key, value in (content.get("rank_pattern") or {}).items()},
                alpha_pattern={str(key): float(value) for key, value in (content.get("alpha_pattern") or {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged(f"no settings of a LoRA adapter ({error!r})", where) from error

    def rank(self, layer: str) -> int:
        """Of the adapter beside a layer."""
        return int(_of_pattern(self.rank_pattern, layer, self.r))

    def scale(self, layer: str) -> float:
        """What the product of an adapter's two matrices is multiplied by."""
        rank = self.rank(layer)
        return _of_pattern(self.alpha_pattern, layer, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


@dataclass(frozen=True, slots=True)
class LowRank:
    """What stands beside one linear layer."""

    down: np.ndarray  # (rank, inputs)
    up: np.ndarray  # (outputs, rank)
    scale: float
    lengths: np.ndarray | None = None  # (outputs,) of DoRA

    def merged(self, weight: np.ndarray) -> np.ndarray:
        """The layer's weight, (outputs, inputs), with the adapter in it, float32."""
        with np.errstate(all="ignore"):  # what is not finite is found afterwards
            merged: np.ndarray = weight.astype(np.float32) + np.float32(self.scale) * (self.up @ self.down)
            if self.lengths is not None:
                merged *= (self.lengths / np.linalg.norm(merged, axis=1))[:, None]
        return merged


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter.

    Raises:
        ModelError: it holds the weights of a whole model too; transformers would put the adapter on them, also where
            it is merged into them.
    """
    if not (folder / CONFIG).is_file():
        return False
    whole = next((path.name for pattern in WHOLE_WEIGHTS for path in folder.glob(pattern)), None)
    if whole is not None:
        raise ModelError(
            f"it holds a whole model ({whole}) and an adapter ({CONFIG}): which is meant is not clear",
            where=str(folder),
            fix="keep them in folders of their own: the adapter_* files in one, all else in another",
        )
    return True


def base_name(folder: Path) -> str:
    """The name of the model that an adapter belongs to; of a folder or a file, which may lie beside it, the path.

    A hub model that is installed as a bundled one is that one, so that nothing is fetched.

    Raises:
        ModelError: it names none, or has no readable settings.
    """
    name = _read_config(folder / CONFIG).base_model_name_or_path
    if not name:
        fix = 'write it into the file: "base_model_name_or_path": "openai/whisper-small"'
        raise ModelError("it does not say which model it is for", where=str(folder / CONFIG), fix=fix)
    beside = folder.resolve().parent / name
    own = "/" not in name and not Path(name).exists()  # a path's last part alone is what our own exports write
    return str(beside) if own and beside.exists() else offline_name(name)


def read_adapter(path: Path, base: Contents) -> Contents:
    """An adapter folder, ours or another's, merged into the model that it belongs to; float32.

    Tokenizer and generation settings are the folder's own, where it has them.

    Raises:
        ModelError: it is damaged, is of another model, or of a kind that is not merged here.
    """
    config = _read_config(path / CONFIG)
    # An adapter beside tied output weights would part them from the embeddings: they are not there to be changed.
    state = {name: array.astype(np.float32) for name, array in without_tied(base.state).items()}
    for name, value in _merged(_read_arrays(path), config, state, str(path)):
        if not np.isfinite(value).all():
            raise _damaged(f"{name} is not finite with the adapter in it", str(path))
        state[name] = value
    tokenizer = tokenizer_beside(path / CONFIG, base.shape.vocabulary) or base.tokenizer_json
    return Contents(state, base.shape, tokenizer, generation_beside(path / CONFIG) or base.generation)


def _merged(
    arrays: Mapping[str, np.ndarray], config: AdapterConfig, state: Mapping[str, np.ndarray], where: str
) -> Iterator[tuple[str, np.ndarray]]:
    """The weights that the adapter changes, by the names that the model has for them."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        plain = name.removeprefix(PREFIX)
        suffix = next((each for each in PARTS if plain.endswith(each)), None)
        if suffix is not None:
            layers.setdefault(plain.removesuffix(suffix), {})[PARTS[suffix]] = array
            continue
        target = plain.replace(".base_layer.", ".")  # trained as a whole: biases, modules_to_save
        if target not in state or state[target].shape != array.shape:
            raise _foreign(f"{name} {array.shape} is nothing that this model has", where)
        yield target, array
    if not layers:
        raise _damaged("there is no adapter in it", where)
    for layer, parts in layers.items():
        weight = state.get(f"{layer}.weight")
        if weight is None or weight.ndim != 2 or "embed" in layer:
            raise _foreign(f"there is an adapter for {layer}, which is no linear layer of this model", where)
        yield f"{layer}.weight", _low_rank(layer, parts, config, weight.shape, where).merged(weight)


def _low_rank(
    layer: str, parts: Mapping[str, np.ndarray], config: AdapterConfig, size: tuple[int, ...], where: str
) -> LowRank:
    try:
        rank, scale = config.rank(layer), config.scale(layer)
    except (re.error, ArithmeticError, ValueError, RecursionError) as error:
        raise _damaged(f"no rank of {layer} follows from its settings ({error})", where) from error
    expected: dict[str, tuple[int, ...]] = {"down": (rank, size[1]), "up": (size[0], rank)}
    if config.use_dora:
        expected["lengths"] = (size[0],)
    found = {name: array.shape for name, array in parts.items()}
    if found != expected:
        raise _foreign(f"the adapter of {layer} is {found} where {expected} is expected", where)
    return LowRank(parts["down"], parts["up"], scale, parts.get("lengths"))


def _of_pattern(patterns: Mapping[str, float], layer: str, otherwise: float) -> float:
    """As peft finds it: the first pattern that the end of the layer's name matches."""
    return next((value for each, value in patterns.items() if re.match(rf"(.*\.)?({each})$", layer)), otherwise)


def _read_config(path: Path) -> AdapterConfig:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(f"no readable settings of an adapter ({error})", str(path)) from error
    return AdapterConfig.from_json(content, str(path))


def _read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays in float32."""
    if (folder / WEIGHTS).is_file():
        return {name: value.detach().float().numpy() for name, value in _read_safetensors(folder / WEIGHTS).items()}
    return {name: each.array().astype(np.float32) for name, each in read_tensors(folder / PICKLED).items()}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _damaged(f"not a readable adapter ({error})", str(path)) from error


# --- writing ----------------------------------------------------------------------------------------------------------


def keep_adapter(model: WhisperForConditionalGeneration, folder: Path, base: str) -> None:
    """Write the adapters that a model in training has into its model folder, float32; nothing where it has none.

    Args:
        model: not touched; of a sharded one, the copy in one piece.
        folder: of the merged weights.
        base: the name of the model that they stand beside.
    """
    from safetensors.numpy import save_file

    from whispertune.model.adapters import whole

    arrays: dict[str, np.ndarray] = {}
    targets: list[str] = []
    module: Any
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        targets.append(name)
        (adapter,) = module.active_adapters
        parts = {"lora_A.weight": module.lora_A, "lora_B.weight": module.lora_B}
        if adapter in module.lora_magnitude_vector:
            parts["lora_magnitude_vector"] = module.lora_magnitude_vector
        for part, value in parts.items():
            arrays[f"{PREFIX}{name}.{part}"] = whole(value[adapter].weight).float().cpu().numpy()
    if targets:
        held: Any = model
        (settings,) = held.peft_config.values()
        name = hub_name(base) or public_name(base)
        config = AdapterConfig(name, settings.r, settings.lora_alpha, settings.use_rslora, settings.use_dora)
        content = _config_json(config, targets, settings.lora_dropout)
        save_file(arrays, folder / KEPT, metadata={"config": content, "base": base})


def keep_copy(folder: Path, out: Path, base: str) -> None:
    """Keep the adapter of a folder beside the weights that it was merged to, as a run keeps the one it trained.

    Args:
        folder: of the adapter, which was read.
        out: of the merged weights.
        base: the name by which its model was found.
    """
    from safetensors.numpy import save_file

    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = hub_name(base) or public_name(base)
    told = json.dumps(content, indent=2, sort_keys=True) + "\n"
    arrays = {name: np.ascontiguousarray(array) for name, array in _read_arrays(folder).items()}
    save_file(arrays, out / KEPT, metadata={"config": told, "base": base})


def write_adapter(source: Path, out: Path, quantization: str) -> None:
    """Write the adapter that is kept beside merged weights as peft reads it.

    Args:
        source: the model folder of a run, or what an adapter folder was converted to.
        out: the folder to write into.
        quantization: float32 or float16.

    Raises:
        InputError: no adapter is kept there.
    """
    from safetensors.numpy import load_file, save_file

    config = _kept(source)["config"]
    arrays = load_file(source / KEPT)
    floats = {name: array.astype(FLOATS[quantization], copy=False) for name, array in arrays.items()}
    save_file(floats, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(config, encoding="utf-8")


def kept_base(source: Path) -> str:
    """The model that the adapter beside merged weights belongs to, by the name that the run was given.

    Raises:
        InputError: no adapter is kept there.
    """
    return _kept(source)["base"]


def _kept(source: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not (source / KEPT).is_file():
        raise InputError(
            "no adapter is kept with these weights: all of them were trained, or they are no run's own",
            where=None if cache_folder() in source.parents else str(source),  # which nobody has given
            fix='export them whole (--to transformers), or train with train.method = "lora"',
        )
    try:
        with safe_open(source / KEPT, framework="np") as file:
            told = dict(file.metadata() or {})
        return {name: told[name] for name in ("config", "base")}
    except (OSError, SafetensorError, KeyError) as error:
        raise _damaged(f"not the adapter that a run keeps ({error!r})", str(source / KEPT)) from error


def _config_json(config: AdapterConfig, targets: list[str], dropout: float) -> str:
    """Only what every version of peft knows: the others are defaults."""
    content = asdict(replace(config, lora_alpha=_whole_number(config.lora_alpha)))
    content |= {
        "peft_type": "LORA",
        "task_type": None,
        "bias": "none",
        "inference_mode": True,
        "lora_dropout": dropout,
        "target_modules": sorted(targets),
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _whole_number(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _refused(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="merge it with peft (merge_and_unload), and give the folder of that")


def _foreign(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="give the adapter with the base model that it was trained on")


def _damaged(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="download it again")
