"""What others build on: the public names, the fields of records, the members of Protocols, the signatures of hooks and
functions. They are data in public_api.json, so that a change of the API is a diff of that file.

`python -m tests.public_api.test_public_api` writes the file anew.
"""

import dataclasses
import importlib
import inspect
import json
import re
import typing
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("public_api.json")
MODULES = ("spiral", "spiral.theory", "spiral.testing")


def described(module):
    """Name -> what of it others rely on."""
    loaded = importlib.import_module(module)
    return {name: _described(getattr(loaded, name)) for name in sorted(loaded.__all__)}


def hooks():
    """Hook -> its signature."""
    from spiral.api import hooks

    return {
        name: str(inspect.signature(hook)).replace("'", "")
        for name, hook in vars(hooks).items()
        if hasattr(hook, "spiral_spec")
    }


def _described(thing):
    if dataclasses.is_dataclass(thing):
        fields = [f"{field.name}: {field.type}{_default(field)}" for field in dataclasses.fields(thing)]
        return {"record": fields, **_methods(thing)}
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return {"error": [base.__name__ for base in thing.__mro__[1:-1]]}
    if getattr(thing, "_is_protocol", False):
        attributes = [f"{name}: {hint}" for name, hint in sorted(thing.__annotations__.items())]
        return {"protocol": attributes, **_methods(thing)}
    if inspect.isclass(thing) and thing.__module__ == "builtins":
        return {"type": thing.__name__}
    if inspect.isclass(thing):
        return {"class": _signature(thing), **_methods(thing)}
    if inspect.isfunction(thing):
        return {"function": _signature(thing)}
    if isinstance(thing, str | tuple):
        return {"value": list(thing) if isinstance(thing, tuple) else thing}
    if typing.get_origin(thing) is not None:
        return {"type": str(thing)}
    return {"object": type(thing).__name__}


def _methods(thing):
    found = {}
    for name, member in sorted(vars(thing).items()):
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property):
            found[name] = "property"
        elif inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
            found[name] = _signature(getattr(thing, name))
    return {"members": found} if found else {}


def _default(field):
    return "" if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING else " = ..."


def _signature(function):
    text = str(inspect.signature(function)).replace("'", "")
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)  # a default that is a function


def current():
    return {**{module: described(module) for module in MODULES}, "hooks": hooks()}


@pytest.mark.parametrize("part", [*MODULES, "hooks"])
def test_the_public_api_is_what_the_file_says(part):
    """A name, field, member or signature that changed is a change of the API: write the file anew, and say so."""
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    found = current()[part]
    assert {*found} == {*recorded[part]}
    for name, description in found.items():
        assert description == recorded[part][name], name


def test_the_public_names_are_about_fifty():
    """A door that can be learnt in an afternoon."""
    import spiral

    assert len(spiral.__all__) <= 60
    assert spiral.__all__ == sorted(spiral.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert dir(spiral) == sorted(spiral.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """Lazy names do not hide a misspelt one."""
    import spiral

    with pytest.raises(AttributeError, match="module 'spiral' has no attribute 'trian'"):
        spiral.trian  # noqa: B018


def test_public_functions_and_classes_have_docstrings():
    """Each says what it is."""
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            thing = getattr(loaded, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert inspect.getdoc(thing), f"{module}.{name}"


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
