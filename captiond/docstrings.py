"""The docstrings of captiond where Python leaves them out: `python -OO`, `PYTHONOPTIMIZE=2`.

The help of the commands and the OpenAPI document are made of them.
"""

import ast
import inspect
import sys
from types import ModuleType

WITHOUT_DOCSTRINGS = 2  # the level of optimization from which on Python leaves them out
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def provide_docstrings() -> None:
    """Read the docstrings of all modules of captiond that are imported, if they have none.

    Those of methods are not read. A module without its source stays as it is.
    """
    if sys.flags.optimize < WITHOUT_DOCSTRINGS:
        return
    package = __name__.partition(".")[0]
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] == package:
            read_docstrings(module)


def read_docstrings(module: ModuleType) -> None:
    """Give the functions and classes of a module the docstrings that its source has."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):  # there is none
        return
    for node in ast.parse(source).body:
        if isinstance(node, DOCUMENTED) and node.name in vars(module):
            vars(module)[node.name].__doc__ = ast.get_docstring(node, clean=False)
