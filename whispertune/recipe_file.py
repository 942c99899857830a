"""Recipe files: read, overridden, checked, written again.

    recipe = load_recipe(Path("my-run/recipe.toml"), ["train.epochs=3"])
    recipe.train.epochs            # 3.0
    save_recipe(recipe, run / "resolved.toml")

Unknown keys are errors that name the nearest right one and the line. Paths are relative to the recipe; those given as
overrides are relative to the current folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from whispertune.errors import RecipeError
from whispertune.recipe import Recipe, located


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `key.sub=value` overrides, check it, and make its data paths absolute.

    Raises:
        RecipeError: what is wrong, in which line or override, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = tomllib.loads(text)
    except OSError as error:
        inside = path / "recipe.toml"
        fix = f"give {inside}" if inside.is_file() else "whispertune init makes one"
        raise RecipeError(f"no readable recipe ({error.strerror})", where=str(path), fix=fix) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"not valid TOML: {error}", where=str(path)) from error
    _absolute(tree, path.parent)
    for override in overrides:
        _override(tree, override)
    return parse_recipe(tree, text, path)


def parse_recipe(tree: dict[str, Any], text: str = "", path: Path | None = None) -> Recipe:
    """Check a tree against the recipe's tables; `text` and `path` say where an error stands."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        line = _line(text, keys)
        where = ".".join(keys) if path is None or line is None else f"{path}:{line}"
        told = where or (str(path) if path else None)  # of several tables together
        raise RecipeError(*_explain(first["type"], keys, first["msg"]), where=told, fix=_fix(keys)) from error


def _explain(kind: str, keys: Sequence[str], message: str) -> tuple[str]:
    name = ".".join(keys)
    if kind == "extra_forbidden":
        return (f"unknown key {name!r}",)
    if kind == "missing":
        return (f"the recipe needs {name!r}",)
    message = message.removeprefix("Value error, ")
    return (f"{name}: {message}" if name else message,)


def _fix(keys: Sequence[str]) -> str | None:
    """The nearest right name for the last key, looked up in the table it stands in."""
    table = _table(keys[:-1])
    if table is None or not keys or keys[-1] in table.model_fields:
        return table.model_fields[keys[-1]].description if table and keys else None
    # Of names that several tables have, the last counts: that of a retention set only where there is no other.
    everywhere = dict(sorted(_all_keys(Recipe), key=lambda each: not each[1].startswith("retention.")))
    if keys[-1] in everywhere:  # the right name in the wrong table
        return f"did you mean {everywhere[keys[-1]]!r}?"
    near = get_close_matches(keys[-1], table.model_fields, n=1, cutoff=0.5)
    if near:
        return f"did you mean {'.'.join([*keys[:-1], near[0]])!r}?"
    return f"it takes {', '.join(table.model_fields)}"


def _all_keys(table: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, field in table.model_fields.items():
        inner = _inner(field.annotation)
        yield (name, prefix + name)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The table behind a field: the field itself, or the rows of a list."""
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _table(keys: Sequence[str]) -> type[BaseModel] | None:
    table: type[BaseModel] | None = Recipe
    for key in keys:
        if key.isdigit() or table is None:
            continue
        table = _inner(table.model_fields[key].annotation) if key in table.model_fields else None
    return table


def _line(text: str, keys: Sequence[str]) -> int | None:
    """The line of a key, by walking the table headers above it; None where it stands in no line."""
    names = [key for key in keys if not key.isdigit()]
    index = next((int(key) for key in keys if key.isdigit()), 0)
    seen: dict[str, int] = {}
    header: str = ""
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#")[0].strip()
        if bare.startswith("["):
            header = bare.strip("[] ")
            seen[header] = seen.get(header, -1) + 1
            inner = header.split(".")
            if inner == names or (inner == names[: len(inner)] and len(inner) == len(names) and bare[1] != "["):
                return number
            continue
        key = bare.split("=")[0].strip()
        full = [part for part in [*header.split("."), *key.split(".")] if part]
        if "=" in bare and full == names and (len(keys) == len(names) or seen.get(header, 0) == index):
            return number
    return None


def _override(tree: dict[str, Any], override: str) -> None:
    dotted, separator, raw = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"not an override: {override!r}", fix="write key.sub=value, for example train.epochs=3")
    node: Any = tree
    try:
        for depth, key in enumerate(keys[:-1]):
            empty: Any = [{}] if (keys[0], depth) in (("data", 1), ("retention", 0)) else {}
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, empty)
        value = _value(raw)
        if keys[0] in ("data", "retention") and keys[-1] == "source":
            value = str(value)
        node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"the recipe has nothing at {dotted!r}", where=override) from error
    overridden = {keys[0]: tree[keys[0]]}
    _absolute(overridden, Path.cwd())  # what stood there is absolute by now
    tree |= overridden


def _value(raw: str) -> Any:
    """A TOML value; what is none is text, so that quotes are not needed on the command line."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _absolute(tree: dict[str, Any], folder: Path) -> None:
    """Make paths absolute that are relative to a folder: of data, of noise, and the model's where it is one."""
    model = tree.get("model")
    if isinstance(model, str) and (folder / model).is_dir():
        tree["model"] = str((folder / model).resolve())
    elif isinstance(model, str) and (folder / model).is_file():
        tree["model"] = str(_under_own_name(folder / model))
    augment = tree.get("augment")
    if isinstance(augment, dict) and isinstance(augment.get("noise"), str):
        augment["noise"] = str((folder / Path(augment["noise"]).expanduser()).resolve())
    data = tree.get("data")
    for rows in [*(data.values() if isinstance(data, dict) else ()), tree.get("retention")]:
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("source"), str):
                row["source"] = located(row["source"], lambda path: _under_own_name(folder / path))


def _under_own_name(path: Path) -> Path:
    """The absolute path; a link keeps its name and place, which say what it is and what lies beside it."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def recipe_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain tables, every default spelled out; what is unset is left out."""
    return recipe.model_dump(mode="json", exclude_none=True)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, which gives the same run again."""
    path.write_text(tomli_w.dumps(recipe_tree(recipe)), encoding="utf-8")
