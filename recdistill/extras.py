"""Packages that some settings alone need: extras of this package (``pyproject.toml``)."""

from __future__ import annotations

import importlib.util

from recdistill.errors import UserError

_PACKAGES = {"implicit": "implicit", "rqvae": "vector-quantize-pytorch", "spark": "pyspark"}


def need(extra: str, *, what: str, otherwise: str = "") -> None:
    """Refuse to go on without an extra's package, which is looked for and not imported.

    Args:
        extra: its name.
        what: the setting or method that needs it.
        otherwise: what would do instead.

    Raises:
        UserError: the package is not installed.
    """
    package = _PACKAGES[extra]
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        install = f'pip install "recdistill[{extra}]"'
        raise UserError(
            f"{what} needs the package '{package}', which is not installed",
            remedy=f"{install}, or {otherwise}" if otherwise else install,
        )
