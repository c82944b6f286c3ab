"""Import someone's package without those of its dependencies that the compared work never uses.

A peer may want clients of web services, plotting or tracking at import. What isn't installed is
stood in for by an empty module; whatever is really called must be installed, else it fails loudly.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any


class _Module(ModuleType):
    __path__: list[str] = []  # noqa: RUF012  (as packages have it)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


_finder = _StandIns()


def imported(name: str) -> Any:
    """The module, with a stand-in for each package that it turns out to lack."""
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    package = name.split(".")[0]
    while True:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            lacking = (error.name or "").split(".")[0]
            if not lacking or lacking == package or lacking in _finder.names:
                raise
            _finder.names.add(lacking)
            for made in [m for m in sys.modules if m.split(".")[0] == package]:
                del sys.modules[made]


def stood_in_for() -> list[str]:
    """The packages that were not there."""
    return sorted(_finder.names)
