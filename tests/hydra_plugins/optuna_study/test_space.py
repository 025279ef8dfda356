"""The table from Hydra's override syntax to Optuna's distributions, and back to overrides."""

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from hydra_plugins.optuna_study._configs import quoted
from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._spec.space import SearchSpace, build_search_space


@pytest.fixture
def build(config_loader):
    def run(*arguments, **params):
        return build_search_space(params, arguments, config_loader=config_loader)

    return run


def parse(text):
    return OverridesParser.create().parse_override(text)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        # choices, in both forms
        ("a=1,2", Choice([1, 2])),
        ("a=choice(1,2,3)", Choice([1, 2, 3])),
        ("a=choice(0.5,1e-3)", Choice([0.5, 1e-3])),
        ("a=choice(x,'y z',\"it's\")", Choice(["x", "y z", "it's"])),
        ("a=choice('1',1)", Choice(["1", 1])),
        ("a=null,true,false", Choice([None, True, False])),
        ("a=choice([1,2],[3,'4,5'])", Choice(["[1,2]", "[3,'4,5']"])),
        ("a=choice({b:1},{b:2})", Choice(["{b:1}", "{b:2}"])),
        ("a=choice(only)", Choice(["only"])),
        ("a=sort(3,1,2)", Choice([1, 2, 3])),
        ("a=shuffle(choice(1,2,3))", Choice([1, 2, 3])),
        ("a=str(choice(1,2))", Choice(["1", "2"])),
        ("shape=round,square", Choice(["round", "square"])),
        ("shape=glob(*)", Choice(["round", "square"])),
        ("shape=glob(*,exclude=r*)", Choice(["square"])),
        # ranges: the stop is left out, as in Python
        ("a=range(3)", Int(0, 2)),
        ("a=range(1,4)", Int(1, 3)),
        ("a=range(1,10,4)", Int(1, 9, step=4)),
        ("a=range(1,9,4)", Int(1, 5, step=4)),
        ("a=range(5,1,-1)", Int(2, 5)),
        ("a=range(5,0,-2)", Int(1, 5, step=2)),
        ("a=range(-2,2)", Int(-2, 1)),
        ("a=shuffle(range(1,4))", Int(1, 3)),
        ("a=range(0,1,0.25)", Float(0, 0.75, step=0.25)),
        ("a=range(0,1,0.1)", Float(0, 0.9, step=0.1)),
        ("a=range(0.1,0.4,0.1)", Float(0.1, 0.3, step=0.1)),
        ("a=range(1,0,-0.5)", Float(0.5, 1.0, step=0.5)),
        ("a=float(range(1,4))", Float(1.0, 3.0, step=1.0)),
        ("a=tag(log,range(1,101))", Int(1, 100, log=True)),
        # intervals: both ends can be drawn
        ("a=interval(0,1)", Float(0.0, 1.0)),
        ("a=interval(-1e-3,1e3)", Float(-1e-3, 1e3)),
        ("a=int(interval(1,16))", Int(1, 16)),
        ("a=tag(log,interval(1e-5,1e-3))", Float(1e-5, 1e-3, log=True)),
        ("a=tag(log,int(interval(1,256)))", Int(1, 256, log=True)),
        ("a=int(tag(log,interval(1,256)))", Int(1, 256, log=True)),
        # keys that are added
        ("+a=range(3)", Int(0, 2)),
        ("++a=range(3)", Int(0, 2)),
        ("shape@b.c=round,square", Choice(["round", "square"])),
    ],
)
def test_override_becomes_distribution(build, text, distribution):
    space = build(text)
    (parameter,) = space.parameters
    assert parameter.distribution == distribution
    assert parameter.key == text.partition("=")[0]
    assert parameter.name == parameter.key.lstrip("+")
    assert space.fixed == ()
    # Its own spelling means the same.
    (again,) = build(f"{parameter.key}={parameter.expression}").parameters
    assert again.distribution == distribution


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a=interval(2,1)", "starts at 2.0 above its end 1.0"),
        ("a=interval(0,inf)", "must be finite"),
        ("a=range(0,inf)", "must be finite"),
        ("a=tag(log,interval(0,1))", "a log scale starts above 0, not at 0.0"),
        ("a=tag(log,interval(-1,1))", "a log scale starts above 0, not at -1.0"),
        ("a=tag(log,range(1,10,2))", "a log range has no step"),
        ("a=tag(log,range(0.1,1,0.1))", "a log range has no step"),
        ("a=tag(log,choice(1,2))", "a choice has no scale"),
        ("a=tag(lgo,interval(1,2))", "the tag lgo means nothing; use log"),
        ("a=range(3,3)", "the range is empty"),
        ("a=range(3,1)", "the range is empty"),
        ("a=range(1,3,0)", "the range is empty"),
        ("a=choice(1,1.0)", "1 and 1.0 are the same choice"),
        ("a=choice(1,true)", "1 and true are the same choice"),
        ("shape=glob(z*)", "nothing to choose from"),
        ("a=chioce(1,2)", "Hydra cannot read it"),
        ("a=interval(1)", "Hydra cannot read it"),
        ("a=choice(x,null)", "KEY=a,null"),
        ("a=1", "nothing to search"),
    ],
)
def test_an_unusable_expression_is_one_line(build, text, reason):
    with pytest.raises(SweepError) as caught:
        build(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert text in str(caught.value) or reason == "nothing to search"


@pytest.mark.parametrize(
    "value",
    [0.1, 1e-5, 1.2345678901234567e-05, 1e16, 1e22, 5e-324, 1.7976931348623157e308, -1 / 3],
)
def test_a_float_reaches_the_job_exactly(build, value):
    (parameter,) = build("a=interval(-1e308,1e308)").parameters
    assert parse(parameter.override(value)).value() == value


@pytest.mark.parametrize(
    "choices",
    [
        ["'a b'", "'it\\'s'", '"say \\"x\\""', "'a,b=c'", "'${x}'", "'\\\\'", "''"],
        ["null", "false", "1", "'1'", "2.5", "word", "path/to.file", "[1,'a b']", "{k:[null]}"],
        [r"a\,b", "a:b", "nan"],
    ],
)
def test_a_choice_reaches_the_job_as_it_was_written(build, choices):
    (parameter,) = build(f"a={','.join(choices)}").parameters
    for text, choice in zip(choices, parameter.distribution.choices, strict=True):
        written, drawn = parse(f"a={text}").value(), parse(parameter.override(choice)).value()
        assert drawn == written or (math.isnan(drawn) and math.isnan(written))


@pytest.mark.parametrize("text", ["sqlite:////a b/c's.db", "a,b", "C:\\x\\", "${x}", "", "x=1"])
def test_quoted_text_is_read_back(text):
    assert parse(f"++a={quoted(text)}").value() == text


def names(space: SearchSpace):
    return {parameter.name: parameter.key for parameter in space.parameters}


def test_the_command_line_replaces_by_key(build):
    space = build("x=1,2", "+z=range(3)", x="interval(0,1)", y="range(2)")
    assert names(space) == {"x": "x", "y": "y", "z": "+z"}
    assert space.parameters[0].distribution == Choice([1, 2])


def test_a_plain_value_fixes_a_key_and_takes_it_out_of_the_search(build):
    space = build("x=0.5", "other='a b'", "~gone", x="interval(0,1)", y="range(2)")
    assert names(space) == {"y": "y"}
    assert space.fixed == ("x=0.5", "other='a b'", "~gone")


def test_a_plain_value_in_the_config_is_a_fixed_override(build):
    space = build(x=0.5, y="range(2)", z=None, flag=True)
    assert space.fixed == ("x=0.5", "flag=true")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=x,null", ["x", None]),
        ("a=range(1,10,4)", [1, 5, 9]),
        ("a=range(0.1,0.4,0.1)", [0.1, 0.2, 0.3]),
    ],
)
def test_grid_lists_every_value(build, text, values):
    (parameter,) = build(text).parameters
    assert parameter.grid() == values


def test_an_interval_has_no_grid(build):
    (parameter,) = build("a=interval(0,1)").parameters
    with pytest.raises(SweepError, match=r"a=interval\(0.0,1.0\): an interval has no grid"):
        parameter.grid()
