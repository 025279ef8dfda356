"""From Hydra's override syntax to Optuna's distributions, and from drawn values to overrides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)
from hydra.errors import HydraException, OverrideParseException
from optuna.distributions import (
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hydra_plugins.optuna_study._configs import quoted
from hydra_plugins.optuna_study._errors import SweepError

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search."""

    name: str
    # The text left of the equals sign, with +, ++ and @package where they were given.
    key: str
    distribution: Distribution
    # Of choices: the text of each right of the equals sign, in the order of the distribution.
    texts: tuple[str, ...] = ()

    def override(self, value: Any) -> str:
        """Write the override that gives a job exactly this value of the distribution."""
        return f"{self.key}={self._text(value)}"

    def _text(self, value: Any) -> str:
        match self.distribution:
            case CategoricalDistribution():
                return self.texts[int(self.distribution.to_internal_repr(value))]
            case IntDistribution():
                return str(int(value))
            case _:
                return repr(float(value))  # repr is the shortest text that reads back equal

    def _contains(self, value: float) -> bool:
        return bool(self.distribution._contains(value))  # noqa: SLF001 - Optuna's own check of a value

    @property
    def expression(self) -> str:
        """The distribution in one form of Hydra's syntax, to compare and to read."""
        match self.distribution:
            case CategoricalDistribution():
                # Hydra takes null in the short form only.
                texts = ",".join(self.texts)
                return texts if len(self.texts) > 1 else f"choice({texts})"
            case IntDistribution(low=low, high=high, step=step, log=log) if step == 1:
                text = f"int(interval({low},{high}))"
                return f"tag(log,{text})" if log else text
            case IntDistribution(low=low, high=high, step=step):
                return f"range({low},{high + 1},{step})"
            case FloatDistribution(low=low, high=high, step=step, log=log):
                if step is not None:
                    return f"range({low!r},{high + step / 2!r},{step!r})"
                text = f"interval({low!r},{high!r})"
                return f"tag(log,{text})" if log else text

    def first(self) -> CategoricalChoiceType:
        """Return one value of the distribution."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[0]
        return self.distribution.low

    def extremes(self) -> list[CategoricalChoiceType]:
        """List every choice, or both ends of a range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        return [self.distribution.low, self.distribution.high]

    def grid(self) -> list[CategoricalChoiceType]:
        """List every value, for a grid.

        Raises:
            SweepError: an interval has no end of values.

        """
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return list(choices)
            case IntDistribution(low=low, high=high, step=step):
                return list(range(low, high + 1, step))
            case FloatDistribution(low=low, high=high, step=float(step)):
                count = round((high - low) / step) + 1
                exact = (Decimal(repr(low)) + i * Decimal(repr(step)) for i in range(count))
                return [float(value) for value in exact]
            case _:
                raise SweepError(
                    f"{self.key}={self.expression}: an interval has no grid; give choice(…) or "
                    "range(…), or another sampler"
                )

    def find(self, value: Any) -> CategoricalChoiceType:
        """Find the value of the distribution that equals a plain value of a config.

        Raises:
            SweepError: there is none.

        """
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                wanted = as_text(value) if isinstance(value, list | dict) else value
                for choice in choices:
                    if choice == wanted and isinstance(choice, bool) == isinstance(wanted, bool):
                        return choice
            case IntDistribution():
                if _is_number(value) and int(value) == value and self._contains(value):
                    return int(value)
            case FloatDistribution():
                if _is_number(value) and self._contains(value):
                    return float(value)
        raise SweepError(f"{self.key}={as_text(value)} is not in {self.expression}")


@dataclass(frozen=True)
class SearchSpace:
    parameters: tuple[Parameter, ...]
    # Plain overrides that every job gets.
    fixed: tuple[str, ...]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Write a point as overrides, the parameters first, then what a function suggested."""
        names = {parameter.name for parameter in self.parameters}
        drawn = [parameter.override(values[parameter.name]) for parameter in self.parameters]
        more = [f"{name}={as_text(value)}" for name, value in values.items() if name not in names]
        return drawn + more

    def point(self, values: Mapping[str, Any]) -> dict[str, CategoricalChoiceType]:
        """Find the values of a point, or of a part of one, that a person wrote.

        Raises:
            SweepError: a key is not searched, or a value is not in its distribution.

        """
        known = {parameter.name: parameter for parameter in self.parameters}
        if unknown := [name for name in values if name not in known]:
            raise SweepError(f"{unknown[0]} is not searched (searched: {', '.join(known)})")
        return {name: known[name].find(value) for name, value in values.items()}

    def sample(self) -> list[str]:
        """Write the overrides of one point, to check that its config can be composed."""
        return [parameter.override(parameter.first()) for parameter in self.parameters]


def build_search_space(
    params: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    config_loader: ConfigLoader | None,
    may_be_empty: bool = False,
    params_key: str = "hydra.sweeper.params",
) -> SearchSpace:
    """Merge the search space of the config with the command line, which wins key by key.

    A sweep on the command line replaces the parameter of the same key; a plain value fixes it.

    Args:
        params: key to sweep expression; a plain value is a fixed override, and null leaves the key
            as the config has it.
        arguments: overrides as typed.
        config_loader: lists the options of a config group for ``glob(…)``; None: there is none.
        may_be_empty: whether a function suggests what is searched.
        params_key: of ``params`` in the config of the app, for messages.

    Raises:
        SweepError: an expression cannot be read or used, or nothing is left to search.

    """
    parser = OverridesParser.create(config_loader=config_loader)
    parameters: dict[str, Parameter] = {}
    fixed: dict[str, str] = {}
    # A string in the config is an expression, as for Hydra's own sweepers.
    given = [
        f"{key}={value if isinstance(value, str) else as_text(value)}"
        for key, value in params.items()
        if value is not None
    ]
    for text in [*given, *arguments]:
        override = _parse(parser, text)
        name = override.get_key_element().lstrip("+~")
        if override.is_sweep_override():
            parameters[name] = Parameter(name, override.get_key_element(), *_convert(override))
            fixed.pop(name, None)
        else:
            # A deletion is kept beside a later override: ~node +node={…} replaces a node.
            key = override.get_key_element() if override.is_delete() else name
            fixed.pop(key, None)
            fixed[key] = text
            parameters.pop(name, None)
    if not parameters and not may_be_empty:
        raise SweepError(
            "nothing to search: every key has one value; give one a choice(…), range(…) or "
            f"interval(…), here or in {params_key}"
        )
    return SearchSpace(tuple(parameters.values()), tuple(fixed.values()))


def as_text(element: Any) -> str:
    """Write a value so that an override of it reads back equal.

    Hydra's own writer drops the quotes of a string in ``choice('1')``, so a job would get a number.
    """
    match element:
        case QuotedString():
            return element.with_quotes()
        case str():
            return element if _is_plain(element) else quoted(element)
        case list():
            return f"[{','.join(map(as_text, element))}]"
        case dict():
            pairs = (f"{Transformer.str(key)}:{as_text(value)}" for key, value in element.items())
            return f"{{{','.join(pairs)}}}"
        case bool():
            return str(element).lower()
        case _:
            return str(Transformer.str(element))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(text: str) -> bool:
    """Whether Hydra reads the text as this string if it has no quotes."""
    try:
        value = OverridesParser.create().parse_rule(text, "primitive")
    except HydraException:
        return False
    return isinstance(value, str) and value == text


def _parse(parser: OverridesParser, text: str) -> Override:
    try:
        return parser.parse_overrides([text])[0]
    except OverrideParseException as error:
        reason = str(error).splitlines()[0]
        raise SweepError(
            f"{text}: Hydra cannot read it ({reason}); write for example KEY=a,null or "
            "KEY=choice(a,b), KEY=range(1,4), KEY=tag(log,interval(1e-5,1e-3))"
        ) from None


def _convert(override: Override) -> tuple[Distribution, tuple[str, ...]]:
    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if unknown := tags - {"log"}:
        raise _error(override, f"the tag {', '.join(sorted(unknown))} means nothing; use log")
    log = "log" in tags
    match sweep:
        case IntervalSweep():
            return _from_interval(override, sweep, log=log), ()
        case RangeSweep():
            return _from_range(override, sweep, log=log), ()
    if log:
        raise _error(override, "a choice has no scale; use tag(log,interval(…))")
    # The list as written. The order of choices means nothing to a sampler, and a shuffle at each
    # start would make another distribution in the same study.
    elements = sweep.list if isinstance(sweep, ChoiceSweep) else list(override.sweep_iterator())
    return _from_choices(override, elements)


def _from_interval(override: Override, sweep: IntervalSweep, *, log: bool) -> Distribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    _require_bounds(override, low, high, log=log)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _from_range(override: Override, sweep: RangeSweep, *, log: bool) -> Distribution:
    numbers = (sweep.start, sweep.stop, sweep.step)
    if not all(math.isfinite(number or 0) for number in numbers):
        raise _error(override, "its numbers must be finite")
    # In decimal, so that range(0,1,0.1) has ten values and not eleven.
    start, stop, step = (Decimal(repr(number)) for number in numbers)
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise _error(override, "the range is empty; its stop is left out, as in Python")
    low, high = sorted((start, start + (count - 1) * step))
    _require_bounds(override, float(low), float(high), log=log)
    if all(isinstance(number, int) for number in numbers):
        if log and abs(step) != 1:
            raise _error(override, "a log range has no step; use tag(log,int(interval(…)))")
        return IntDistribution(int(low), int(high), step=int(abs(step)), log=log)
    if log:
        raise _error(override, "a log range has no step; use tag(log,interval(…))")
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _from_choices(
    override: Override, elements: Sequence[Any]
) -> tuple[Distribution, tuple[str, ...]]:
    choices = [_as_choice(element) for element in elements]
    texts = tuple(as_text(element) for element in elements)
    if not choices:
        raise _error(override, "there is nothing to choose from")
    for index, choice in enumerate(choices):
        # Optuna finds a choice by ==, and 1 == 1.0 == True.
        if choice in choices[:index]:
            other = texts[choices.index(choice)]
            raise _error(override, f"{other} and {texts[index]} are the same choice; drop one")
    return CategoricalDistribution(choices), texts


def _as_choice(element: Any) -> CategoricalChoiceType:
    """Return what the study stores: plain values as they are, lists and dictionaries as text."""
    match element:
        case QuotedString(text=text):
            return text
        case list() | dict():
            return as_text(element)
        case None | bool() | int() | float() | str():
            return element
    raise AssertionError(element)


def _require_bounds(override: Override, low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _error(override, "its ends must be finite")
    if low > high:
        raise _error(override, f"it starts at {low} above its end {high}; swap them")
    if log and low <= 0:
        raise _error(override, f"a log scale starts above 0, not at {low}")


def _error(override: Override, reason: str) -> SweepError:
    return SweepError(f"{override.input_line}: {reason}")
