"""Models by name: hub id, folder, run, or bundled; all become one kind of folder.

folder = find_model("bundled:whisper-base")   # or openai/whisper-small, my-run, a transformers or
model = folder.load()                         # CTranslate2 folder
folder.vocabulary.prefix("sv", "transcribe", timestamps=False)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from whispertune.errors import ModelError
from whispertune.files import sha256
from whispertune.model.bundled import BUNDLES, bundled_files
from whispertune.model.cache import cache_folder, filled
from whispertune.model.formats import adapter, ctranslate2, transformers
from whispertune.model.formats.contents import Contents
from whispertune.model.formats.tied import without_tied
from whispertune.model.formats.transformers import Shape
from whispertune.model.formats.weights import read_weights
from whispertune.model.generation import Generation
from whispertune.model.naming import BUNDLED, hub_name
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

HUB_FILES = ["*.json", "*.txt", "*.safetensors"]
# Fetched where there are no safetensors: pickled, an adapter's too, or CTranslate2's.
OLD_WEIGHTS = ["pytorch_model*.bin", adapter.PICKLED, "model.bin"]
OTHERS = ["*/*", "*.fp32-*", "*.fp16.*"]  # checkpoints in folders, and the same weights in other precisions
RUN_MARK = "run.json"  # a folder with this file is a run; its best weights lie in model/
CONVERSION = b"3"  # what conversions write: of another one nothing is found in the cache
MARK = "whispertune.json"  # in a model folder of any format: what it says of itself, see decode/context.py


@dataclass(frozen=True)
class ModelFolder:
    """A complete transformers folder, and the name the user knows it by."""

    name: str
    path: Path

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_file(self.path / "tokenizer.json")

    @cached_property
    def shape(self) -> Shape:
        return Shape.from_folder(self.path)

    @cached_property
    def generation(self) -> Generation:
        return Generation.from_folder(self.path)

    @property
    def tokenizer_json(self) -> bytes:
        return (self.path / "tokenizer.json").read_bytes()

    def load(self, dropout: float = 0.0) -> WhisperForConditionalGeneration:
        """The model in float32 on the CPU."""
        weights = read_weights(self.path, self.shape)
        return transformers.read_model(self.path, weights, self.generation, self.vocabulary, dropout)


def is_ctranslate2(folder: Path) -> bool:
    """Whether the folder is in CTranslate2's (and so faster-whisper's) format."""
    return (folder / "model.bin").is_file() and (folder / "config.json").is_file()


def run_model(folder: Path) -> Path:
    """The weights of a run, best checkpoint first."""
    model = folder / "model"
    if not (model / "config.json").exists():
        raise ModelError("this run has no trained model yet", where=str(folder), fix="whispertune train its recipe")
    return model


def find_model(name: str) -> ModelFolder:
    """The transformers folder of a model; what is in another format is converted into the cache once.

    Raises:
        ModelError: nothing of that name can be found or read; the message says how to go on.
    """
    return _find(name, ())


def _find(name: str, adapters: tuple[Path, ...]) -> ModelFolder:
    """The same, of a model that these adapters are for, each for the next."""
    if name.startswith(BUNDLED):
        return ModelFolder(name, _converted(bundled_files(name.removeprefix(BUNDLED))))
    path = Path(name).expanduser()
    if path.is_file():
        return ModelFolder(name, _from_foreign(path))
    if path.is_dir():
        return ModelFolder(name, _from_folder(run_model(path) if (path / RUN_MARK).exists() else path, adapters))
    if hub_name(name):
        return ModelFolder(name, _whole_from_hub(name, adapters))
    raise ModelError(f"no model {name!r}", fix=_ways())


def _from_folder(path: Path, adapters: tuple[Path, ...]) -> Path:
    """The transformers folder of what lies in a folder, in whatever form."""
    if adapter.is_adapter(path):
        return _from_adapter(path, adapters)
    if is_ctranslate2(path):
        return _converted(path)
    return path if (path / "config.json").exists() else _from_foreign(path)


def _from_foreign(path: Path) -> Path:
    from whispertune.model.foreign import BESIDE, foreign_file, read_foreign

    file = foreign_file(path)
    if file is None:
        raise ModelError(
            "no model in this folder" if path.is_dir() else "no model that can be read",
            where=str(path),
            fix="it needs config.json beside model.safetensors or model.bin, or a .pt or ggml file",
        )

    return filled(_place(file, BESIDE), lambda out: _write(read_foreign(file), file.parent, out))


def _from_adapter(path: Path, adapters: tuple[Path, ...]) -> Path:
    """The adapter merged into its model."""
    name = adapter.base_name(path)
    if path.resolve() in adapters:
        raise ModelError(
            "an adapter that is its own base, directly or by others",
            where=str(path / adapter.CONFIG),
            fix=f"name the whole model there instead of {name}",
        )
    base = _find(name, (*adapters, path.resolve()))
    weights = next((path / each for each in (adapter.WEIGHTS, adapter.PICKLED) if (path / each).is_file()), None)
    if weights is None:
        raise ModelError("an adapter without weights", where=str(path), fix=f"it needs {adapter.WEIGHTS}")

    def merge(out: Path) -> None:
        from whispertune.model.parameters import merged_state

        whole = Contents(without_tied(merged_state(base.load())), base.shape, base.tokenizer_json, base.generation)
        _write(adapter.read_adapter(path, whole), path, out)
        adapter.keep_copy(path, out, base.name)

    beside = (adapter.CONFIG, "tokenizer.json", "generation_config.json")
    return filled(_place(weights, beside, f"{base.name} {_content(base.path)}"), merge)


def _ways() -> str:
    bundles = " or ".join(f"bundled:{name}" for name in BUNDLES)
    return f"give a folder, a run, a hub name such as openai/whisper-small, or {bundles}"


def _whole_from_hub(name: str, adapters: tuple[Path, ...]) -> Path:
    """The transformers folder of a hub model or adapter, whatever form its weights have there."""
    path = from_hub(name)
    if not any(path.glob("*.safetensors")):
        path = from_hub(name, [*HUB_FILES, *OLD_WEIGHTS])
    if adapter.is_adapter(path):
        return _from_adapter(path, adapters)
    whole = any(path.glob("model*.safetensors")) or any(path.glob(OLD_WEIGHTS[0]))  # beside it CTranslate2's may lie
    return path if whole else _from_folder(path, adapters)


def from_hub(name: str, files: Sequence[str] = HUB_FILES) -> Path:
    """The folder of a hub model with these of its files, fetched where they are not in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), ignore_patterns=OTHERS))
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # no network is an OSError too
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the model hub gave no {name}, and it is not in the local cache ({reason})",
            fix="check the name and the network (a private model needs HF_TOKEN), or go on without: " + _ways(),
        ) from error


def _converted(folder: Path) -> Path:
    place = _place(folder / "model.bin", ("config.json", "generation_config.json", "tokenizer.json"))
    return filled(place, lambda out: _convert(folder, out))


def _place(file: Path, beside: Sequence[str], more: str = "") -> Path:
    """Where in the cache the conversion of a file lies, by its content and that of what is read beside it."""
    digest = sha256(file)
    settings = hashlib.sha256(CONVERSION + more.encode())
    for name in (*beside, MARK):
        if (file.parent / name).exists():
            settings.update((file.parent / name).read_bytes())
    return cache_folder() / f"transformers-{digest[:16]}-{settings.hexdigest()[:8]}"


def _content(folder: Path) -> str:
    """What a transformers folder is told from another by, wherever they lie."""
    files = sorted(path for pattern in (*HUB_FILES, *OLD_WEIGHTS) for path in folder.glob(pattern))
    return " ".join(f"{path.name} {sha256(path)}" for path in files)


def _convert(folder: Path, out: Path) -> None:
    _write(ctranslate2.read_ctranslate2(folder), folder, out)


def _write(contents: Contents, source: Path, out: Path) -> None:
    transformers.write_folder(out, contents.state, contents.shape, contents.tokenizer_json, contents.generation)
    copy_mark(source, out)


def copy_mark(source: Path, target: Path) -> None:
    """Carry what a model folder says of itself over to another form of it."""
    if (source / MARK).exists():
        shutil.copyfile(source / MARK, target / MARK)
