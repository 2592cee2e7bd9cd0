"""Making ``AutoConfig`` and ``AutoModel`` know the student, without importing torch or transformers for it.

The auto classes are told when they are first imported, by whomever. So ``import recdistill`` is quick, and works where
torch is broken: then it is the import of transformers that says so.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType


def register() -> None:
    """Tell the auto classes now if they are loaded, else as soon as they are."""
    for module, tell in (
        ("transformers.models.auto.configuration_auto", _tell_config),
        ("transformers.models.auto.modeling_auto", _tell_model),
    ):
        if module in sys.modules:
            tell()
        elif not any(isinstance(finder, _After) and finder.module == module for finder in sys.meta_path):
            sys.meta_path.insert(0, _After(module, tell))


def _tell_config() -> None:
    from transformers import AutoConfig

    from recdistill.students.configuration import MODEL_TYPE, RecDistillStudentConfig

    AutoConfig.register(MODEL_TYPE, RecDistillStudentConfig, exist_ok=True)


def _tell_model() -> None:
    from transformers import AutoModel

    from recdistill.students.configuration import RecDistillStudentConfig
    from recdistill.students.modeling import RecDistillStudent

    AutoModel.register(RecDistillStudentConfig, RecDistillStudent, exist_ok=True)


class _After(MetaPathFinder):
    """Finds one module as it would be found without, and calls back once it has been executed."""

    def __init__(self, module: str, then: Callable[[], None]) -> None:
        self.module, self._then = module, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Calling(spec.loader, self._then)
        return spec


class _Calling(Loader):
    def __init__(self, loader: Loader, then: Callable[[], None]) -> None:
        self._loader, self._then = loader, then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._then()
