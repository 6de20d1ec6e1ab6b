"""Groups of settings: declared types and bounds, checked in one place; conversion to and from JSON and text."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from adaqf_train.errors import ConfigError

Settings = TypeVar("Settings")  # a dataclass of settings, or of groups of them


@dataclass(frozen=True)
class Bound:
    """A condition on a number, attached to a field's type: `Annotated[int, at_least(1)]`."""

    phrase: str  # What the value must be, as messages say it: "at least 1".
    holds: Callable[[float], bool]


def at_least(low: float) -> Bound:
    """The bound `low <= value`."""
    return Bound(f"at least {low:g}", lambda value: value >= low)


def at_most(high: int) -> Bound:
    """The bound `value <= high`, of sizes that a stray digit would turn into terabytes."""
    return Bound(f"at most {high:,}", lambda value: value <= high)


def within(interval: str) -> Bound:
    """The bound of an interval in mathematical notation, such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    left, right = interval[0] == "[", interval[-1] == "]"
    return Bound(f"in {interval}", lambda v: low <= v <= high and (left or v != low) and (right or v != high))


WHOLE = 2**63  # of whole numbers, and GREATEST of others: what int64 and float32 hold, with room for sums
GREATEST, LEAST = 1e30, 1e-30
Count = Annotated[int, at_least(1), at_most(10**9)]
Items = at_most(1_000_000)  # of what is held in memory at once: motions of a batch, candidates, pairs
Parts = Annotated[int, at_least(1), at_most(1024)]  # processes, checkpoints, shapes
Width = Annotated[int, at_least(1), at_most(65_536)]  # of a layer
Layers = Annotated[int, at_least(1), at_most(200)]
Natural = Annotated[int, at_least(0), at_most(2**63 - 1)]
Positive = Annotated[float, Bound("positive", lambda value: value > 0), at_least(LEAST)]
NotNegative = Annotated[float, at_least(0)]
Share = Annotated[float, within("[0, 1)")]


class Group:
    """Base of a group of settings (a frozen dataclass): checks each field against its declared type and bounds.

    `class TrainingConfig(Group, name="training")` names the group in messages. A subclass that compares fields with
    each other extends `__post_init__`.
    """

    _name: ClassVar[str]

    def __init_subclass__(cls, name: str, **options: object) -> None:
        super().__init_subclass__(**options)
        cls._name = name

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, list):  # JSON has lists only
                value = tuple(value)
                object.__setattr__(self, name, value)
            check(f"{self._name}.{name}", hint, value)


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def check(name: str, hint: object, value: object) -> None:
    """Raises ConfigError when a value is not of the declared type or outside its bounds."""
    fault = _fault(hint, value)
    require(fault is None, f"{name} must be {fault}, got {_shown(value)}.")


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Types of a dataclass's fields by name, bounds included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def build(kind: type[Settings], content: Mapping[str, object]) -> Settings:
    """The configuration that `asdict` wrote, absent fields at their defaults, or ConfigError for a wrong one."""
    hints = hints_of(kind)
    try:
        return kind(
            **{
                name: build(hints[name], value) if dataclasses.is_dataclass(hints.get(name)) else value
                for name, value in content.items()
            }
        )
    except (TypeError, AttributeError) as error:  # an unknown name, or a value in the place of a group
        raise ConfigError(f"The saved configuration does not fit this version: {error}.") from error


def digest(content: object) -> str:
    """A short hash of anything JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def override(config: Settings, settings: Sequence[str]) -> Settings:
    """Changes settings, such as "diffusion.steps=50", all together; of two values for one field the later counts.

    "none" stands for None; lists are separated by commas. ConfigError for a field that does not exist, with the name of
    the nearest one, or a value that does not hold.
    """
    known = dict(_fields(type(config)))
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        require(bool(equals), f"--set {setting[:60]}: expected name=value, such as diffusion.steps=50.")
        require(name != "recipe", "--set recipe: a recipe is all settings. Choose it with --recipe.")
        if name not in known:
            near = difflib.get_close_matches(name[:60], known, n=1, cutoff=0) or [""]
            raise ConfigError(f"There is no setting {name[:60]!r}. The nearest one is {near[0]!r}.")
        changes[name] = _value(text, known[name])
        check(name, known[name], changes[name])
    return _replaced(config, changes)


def settings_between(before: object, after: object, prefix: str = "") -> list[str]:
    """The changes that make `after` from `before`, in the form that `override` takes."""
    changes: list[str] = []
    for name in hints_of(type(before)):
        old, new = getattr(before, name), getattr(after, name)
        if dataclasses.is_dataclass(new):
            changes += settings_between(old, new, f"{prefix}{name}.")
        elif new != old:
            text = ",".join(map(str, new)) if isinstance(new, tuple) else str(new)
            changes.append(f"{prefix}{name}={text.lower() if new is None or isinstance(new, bool) else text}")
    return changes


def _replaced(config: Settings, changes: Mapping[str, object]) -> Settings:
    """changes: {"group.field": value}; each group is rebuilt once, so that it is checked as a whole."""
    groups: dict[str, dict[str, object]] = {}
    fields: dict[str, object] = {}
    for name, value in changes.items():
        group, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(group, {})[rest] = value
        else:
            fields[name] = value
    return replace(config, **fields, **{group: _replaced(getattr(config, group), new) for group, new in groups.items()})


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted name, type) of every setting below a dataclass."""
    for name, hint in hints_of(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint


def _parts(hint: object) -> tuple[object, tuple]:
    """Origin and arguments of a type; "X | None" has one origin, however it is written."""
    origin = typing.get_origin(hint)
    return types.UnionType if origin is typing.Union else origin, typing.get_args(hint)


def _fault(hint: object, value: object) -> str | None:
    """What the value must be, when it is something else."""
    origin, arguments = _parts(hint)
    if origin is Annotated:
        bounds = [bound for bound in hint.__metadata__ if isinstance(bound, Bound)]
        return _fault(arguments[0], value) or next((b.phrase for b in bounds if not b.holds(value)), None)
    if origin is types.UnionType:  # only "X | None" occurs
        fault = None if value is None else _fault(arguments[0], value)
        return fault and f"none or {fault}"
    if origin is Literal:
        return None if value in arguments else f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        faults = (_fault(arguments[0], part) for part in value) if isinstance(value, tuple) else ["a list"]
        return next((fault for fault in faults if fault), None)
    number = not isinstance(value, bool)
    if hint is int:
        if not number or not isinstance(value, numbers.Integral):
            return "a whole number"
        return None if abs(value) < WHOLE else "a whole number below 2**63"
    if hint is float:
        if not number or not isinstance(value, numbers.Real) or not abs(value) <= sys.float_info.max:
            return "a finite number"
        return None if abs(value) <= GREATEST else f"a number of at most {GREATEST:g}"
    if hint is bool:
        return None if isinstance(value, bool) else "true or false"
    return None if not isinstance(hint, type) or isinstance(value, hint) else f"of type {hint.__name__}"


def _shown(value: object) -> str:
    """A value for a message; Python refuses to write numbers of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _value(text: str, hint: object) -> object:
    """Text as a value of that type; text that cannot be read as one stays text, which `check` refuses."""
    origin, arguments = _parts(hint)
    if origin is Annotated:
        return _value(text, arguments[0])
    if origin is types.UnionType:
        return None if text.lower() == "none" else _value(text, arguments[0])
    if origin is tuple:
        return tuple(_value(part.strip(), arguments[0]) for part in text.split(",") if part.strip())
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return hint(text) if hint in (int, float) else text
    except ValueError:
        return text
