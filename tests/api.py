"""The public names of the library and their signatures, one line each: ``python tests/api.py --write`` makes ``tests/api.txt``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

FILE = Path(__file__).with_name("api.txt")
PACKAGES = (
    "", ".energies", ".energies.presets", ".kernels", ".descent", ".layers", ".analysis", ".analysis.capacity", ".analysis.icl",
    ".analysis.landscape", ".analysis.memorization",
    ".analysis.memory_model", ".analysis.plots", ".analysis.runs", ".analysis.scaling", ".analysis.snr",
    ".distributed", ".integrations.huggingface", ".storage", ".streamed", ".testing",
)  # fmt: skip
NEEDS = {".integrations.huggingface": "transformers"}  # packages that an extra installs


def lines() -> list[str]:
    """Every public name with its signature, by package."""
    found = []
    for package in PACKAGES:
        if package in missing():
            continue
        module = importlib.import_module(f"hopfield_amem{package}")
        found += [f"{module.__name__}.{name}{described(getattr(module, name))}" for name in sorted(public(module))]
    return found


def missing() -> list[str]:
    """The packages that cannot be looked at here, because what they need is not installed."""
    return [package for package, needed in NEEDS.items() if importlib.util.find_spec(needed) is None]


def public(module) -> list[str]:
    """``__all__``; without one, the functions in it, as of ``presets``."""
    own = (name for name, thing in vars(module).items() if not name.startswith("_") and inspect.isfunction(thing))
    return list(getattr(module, "__all__", own))


def described(thing: object) -> str:
    """The signature of a function; of a class also those of its public methods; nothing of anything else, nor of exceptions, whose differ between Pythons."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return ": exception"
    if inspect.isclass(thing):
        methods = [f"{name}{signature(member)}" for name, member in sorted(vars(thing).items()) if not name.startswith("_") and method(member)]
        return f"{signature(thing)}" + (f"  [{'; '.join(methods)}]" if methods else "")
    return signature(thing) if inspect.isfunction(thing) else f": {type(thing).__name__}"


def method(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))


def signature(thing: object) -> str:
    """The parameters with their defaults, without types: those may be made wider. An object's address or a long default is left out."""
    thing = thing.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing
    try:
        given = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(…)"
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in given.parameters.values()]
    text = str(given.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:function|class|factory|built-in function)?\s*'?([\w.]*)[^>]*>", r"<\1>", text)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/api.py --write")
    if missing():
        sys.exit(f"api.txt has lines of {', '.join(missing())} as well: pip install {', '.join(NEEDS[package] for package in missing())}")
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
