"""Where the folders that travel with the package are: in an installed wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from recdistill.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def data_contracts() -> Path:
    """The folder of the data contracts."""
    return _folder("data_contracts")


def experiments() -> Path:
    """The folder that holds ``recipes``; in a checkout it has the benchmark scripts as well."""
    return _folder("experiments")


def _folder(name: str) -> Path:
    for place in (_PACKAGE / name, _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise UserError(
        f"the folder {name} is neither in {_PACKAGE} nor beside it",
        remedy="install recdistill again: the wheel carries this folder",
    )


def find_recipe(recipe: Path) -> Path:
    """The recipe file itself if it exists, else the packaged recipe of that name (``demo``, ``demo.yaml``)."""
    packaged = experiments() / "recipes" / f"{recipe.name.removesuffix('.yaml')}.yaml"
    bare = recipe.parent == Path()
    return packaged if bare and not recipe.exists() and packaged.exists() else recipe
