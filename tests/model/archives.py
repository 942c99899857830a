"""Archives as torch.save writes them: three files with tensors, taken apart, put together again, and what is hostile.

kind = KINDS["adapter"](tiny, folder)
kind.path.write_bytes(damaged)
kind.read()
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from safetensors.torch import load_file

from tests.exports import stored
from tests.model.openai_checkpoint import random_contents
from whispertune.model.formats.adapter import CONFIG, PICKLED, WEIGHTS, read_adapter
from whispertune.model.formats.openai import FILE, read_openai, write_openai
from whispertune.model.formats.weights import read_weights
from whispertune.model.load import ModelFolder

HUGE = 1 << 40
MODEL: Final = "pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class Kind:
    """A file that is read, and what it comes to."""

    path: Path
    read: Callable[[], Mapping[str, np.ndarray]]


def openai(tiny: ModelFolder, folder: Path) -> Kind:
    write_openai(random_contents(), folder, "float16")
    return Kind(folder / FILE, lambda: read_openai(folder / FILE).state)


def model(tiny: ModelFolder, folder: Path) -> Kind:
    """As trainers of older days left it, with the output weights that are the embeddings."""
    shutil.copytree(tiny.path, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    torch.save(tiny.load().state_dict(), folder / MODEL)
    return Kind(
        folder / MODEL,
        lambda: {name: tensor.numpy() for name, tensor in read_weights(folder, tiny.shape).items()},
    )


def adapter(tiny: ModelFolder, folder: Path) -> Kind:
    from peft import LoraConfig, get_peft_model

    contents = stored(tiny)
    tuned = get_peft_model(tiny.load(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, value in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)  # it has learned something
    tuned.save_pretrained(str(folder))
    torch.save(load_file(folder / WEIGHTS), folder / PICKLED)
    (folder / WEIGHTS).unlink()
    assert (folder / CONFIG).exists()
    return Kind(folder / PICKLED, lambda: read_adapter(folder, contents).state)


KINDS: dict[str, Callable[[ModelFolder, Path], Kind]] = {"openai": openai, "model": model, "adapter": adapter}


def records(path: Path) -> dict[str, bytes]:
    """The contents of an archive, by name."""
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, content: Mapping[str, bytes], how: int = ZIP_STORED) -> None:
    """An archive with right checksums, whatever is in it."""
    with ZipFile(path, "w", how) as archive:
        for name, blob in content.items():
            archive.writestr(name, blob)


def list_of(content: Mapping[str, bytes]) -> str:
    """The name of the pickle in an archive."""
    (name,) = [each for each in content if each.endswith("data.pkl")]
    return name


def number(value: int) -> bytes:
    """As pickles of protocol 2 hold large ones."""
    return pickle.LONG1 + b"\x06" + value.to_bytes(6, "little")


def text(value: str) -> bytes:
    """As pickles hold them."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


PAIRS = b"](" + b"".join(b"K" + bytes([each]) + b"K\x00\x86" for each in range(256)) + b"e"  # (0, 0), (1, 0) ...

HOSTILE: Final = {
    "runs a command": b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
    "takes memory": b"\x80\x02c__builtin__\nbytearray\n(" + number(3 << 30) + b"tR.",
    "another instruction for names": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "no end": b"\x80\x02}q\x00",
    "nothing": b"",
    "a long text": b"\x80\x02X\xff\xff\xff\x7fa.",
    "copies of copies": b"\x80\x02ccollections\nOrderedDict\nq\x00"
    + PAIRS
    + b"\x85q\x01R"
    + b"h\x00h\x01R" * 60_000
    + b".",
    "a place far off": b"\x80\x02}r\xff\xff\xff\x7f.",
    "very much of nothing": b"\x80\x02" + b"}" * (1 << 22) + b".",
    "much of nothing": b"\x80\x02" + b"}" * 900_000 + b".",
    "a name that is deep": b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "its own part": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "a tensor of no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89}tR.",
    "a storage of no record": b"\x80\x02("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("x")
    + text("cpu")
    + b"K\x01tQ.",
}
