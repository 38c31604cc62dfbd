"""Templates come from outside: what they may say, and what they can never do."""

import pytest

from kshot.errors import InvalidTemplate
from kshot.schemas.pools import PoolSettings, PromptTemplate
from kshot.server.services import sandbox
from kshot.server.services.sandbox import FILTERS, MAX_CHARS, SandboxedTemplate
from kshot.server.services.templates import PoolTemplates

LONG = "ab" * 100_000
VALUES = {
    "inputs": {
        "text": "It's <b>",
        "items": [1, 2],
        "long": LONG,
        "nested": {"a": 1, "b": None},
        "rows": [{"n": 2}, {"n": 1}],
    },
    "outputs": "yes",
    "metadata": {"lang": "en"},
}


def render(source: str) -> str:
    return SandboxedTemplate("/here", source, VALUES).render(VALUES)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ inputs.text }}", "It's <b>"),
        ("{{ inputs['text'].upper() }}", "IT'S <B>"),
        ("{{ inputs.items|join('-') }}", "1-2"),
        ("{{ inputs.text|tojson }}", '"It\'s <b>"'),
        ("{{ inputs.nested|tojson }}", '{"a": 1, "b": null}'),
        ("{{ outputs ~ '!' ~ 1 }}", "yes!1"),
        ("{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ -1 }}", "5.0 3 3 -1"),
        ("{{ 'a' if metadata.lang == 'en' else 'b' }}", "a"),
        ("{% if metadata.x is defined %}a{% elif 'b' in inputs.text %}b{% endif %}", "b"),
        ("{{ metadata.x|default('none') }}", "none"),
        (
            "{% for row in inputs.rows|sort(attribute='n') %}{{ loop.index }}={{ row.n }};{% endfor %}",
            "1=1;2=2;",
        ),
        ("{% for k, v in inputs.nested.items() %}{{ k }}{{ v }}{% else %}-{% endfor %}", "a1bNone"),
        ("{% for i in range(3) %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xyx"),
        ("{{ inputs.text[:4]|lower|replace(\"'\", '´')|trim|length }}", "4"),
        ("{{ inputs.rows|map(attribute='n')|list }}", "[2, 1]"),
        ("{{ 2.345|round(1) }} {{ 3|round }}", "2.3 3"),
        ("{% raw %}{{ x }}{% endraw %}{# no comment #}\n", "{{ x }}\n"),
    ],
)
def test_templates_may_say(source: str, wanted: str):
    assert render(source) == wanted


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_every_allowed_filter_exists(name: str):
    with pytest.raises(InvalidTemplate, match="is unknown, allowed"):
        SandboxedTemplate("/here", f"{{{{ nothing|{name} }}}}", [])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ inputs.__class__.__mro__[1].__subclasses__() }}",
        "{{ inputs['__class__'] }}",
        "{{ inputs.text['__class__'] }}",
        "{{ inputs.text|attr('__class__') }}",
        "{{ '{0.__class__}'.format(inputs) }}",
        "{{ '{0[text].__class__}'.format_map(inputs) }}",
        "{{ '%s' % inputs }}",
        "{{ inputs.rows|map(attribute='__class__')|join }}",
        "{{ inputs.rows|sort(attribute='__class__') }}",
        "{{ inputs.text.encode.__globals__ }}",
        "{{ range.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ self }}",
        "{{ cycler }}{{ joiner }}{{ namespace }}{{ lipsum }}{{ dict }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ loop }}",
        "{% for x in inputs %}{{ loop._iterable }}{% endfor %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% call(x) inputs() %}{% endcall %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% for x in inputs recursive %}{{ loop(inputs) }}{% endfor %}",
        "{% set x = inputs %}",
        "{% set x %}a{% endset %}",
        "{% with x = 1 %}{% endwith %}",
        "{% filter upper %}a{% endfilter %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% do inputs.clear() %}",
        "{{ inputs.clear() }}",
        "{{ inputs.items.append(1) }}",
        "{{ inputs.nested.pop('a') }}",
        "{{ {'a': 1} }}",
        "{{ inputs.text.upper }}",
        "{{ range }}",
    ],
)
def test_no_template_reaches_out(source: str):
    with pytest.raises(InvalidTemplate) as caught:
        render(source)
    assert [error.pointer for error in caught.value.errors] == ["/here"]
    assert "0x" not in caught.value.message


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ 1000000000 * 'a' }}",
        "{{ [1] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ '\t'.expandtabs(1000000000) }}",
        "{{ 'a'|indent(1000000000) }}",
        "{{ 1|round(-1000000000) }}",
        "{{ 1.5|round(precision=1000000000, method='ceil') }}",
        "{{ 'a' + 'b' }}",
        "{{ inputs.items + inputs.items }}",
        "{{ inputs.items|sum(start=[]) }}",
        "{{ inputs.long|replace('a', inputs.long) }}",
        "{{ inputs.long|replace('', inputs.long) }}",
        "{{ inputs.long|list|join(inputs.long) }}",
        "{{ inputs.long ~ inputs.long ~ inputs.long ~ inputs.long ~ inputs.long ~ inputs.long }}",
        "{{ inputs.long" + "|tojson" * 30 + "|length }}{{ inputs.text" + "|tojson" * 30 + " }}",
        "{{ inputs.long }}" * 6,
        "{% for i in range(1000) %}{{ inputs.long }}{% endfor %}",
        "{% for i in range(100000) %}{% endfor %}",
        "{% for i in range(10 * 1000000000 * 1000000000 * 1000000000) %}{% endfor %}",
        "{% for c in inputs.long %}{{ c }}{% endfor %}",
        "{% for i in range(99) %}{% for j in range(99) %}{% endfor %}{% endfor %}",
        "{% for i in range(99) %}{% if i %}{% for j in range(99) %}{% endfor %}{% endif %}{% endfor %}",
        "{% for i in range(1000) %}{{ (inputs.long" + "|upper|lower" * 40 + ")|length }}{% endfor %}",
        "{% for i in range(1000) %}{% if inputs.long|list|sort|length == i %}{% endif %}{% endfor %}",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{{ " + "not " * 20_000 + "1 }}",
        "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
        "{% if 1 %}" * 300 + "{% endif %}" * 300,
        "{{ 1 / 0 }}",
        "{{ 1 % 0 }}",
        "{{ 'a'.split('') }}",
    ],
)
def test_no_template_makes_much_out_of_little(source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "MAX_RENDER_S", 0.2)
    # Without the limits these run for hours or take all memory.
    with pytest.raises(InvalidTemplate):
        render(source)


def test_the_longest_text_is_still_rendered():
    template = SandboxedTemplate("/here", "{{ inputs }}", ["inputs"])
    assert len(template.render({"inputs": "x" * MAX_CHARS})) == MAX_CHARS
    with pytest.raises(InvalidTemplate, match=f"more than {MAX_CHARS} characters"):
        template.render({"inputs": "x" * (MAX_CHARS + 1)})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ input }}", "'input' is unknown, allowed inputs, metadata, outputs"),
        ("{{ inputs.nothing }}", "has no attribute 'nothing'"),
        ("{{ inputs.nothing.more }}", "has no attribute 'nothing'"),
        ("{{ metadata['a b'] }}", "has no attribute 'a b'"),
        ("{% if metadata.x %}{% endif %}", "has no attribute 'x'"),
        ("{% for x in inputs recursive %}{{ loop(x) }}{% endfor %}", "a recursive loop is not allowed"),
        (
            "{% for x in inputs %}{% for y in x %}{% endfor %}{% endfor %}",
            "a loop inside a loop is not allowed",
        ),
        ("{% set x = 1 %}", "assign is not allowed"),
        ("a\n{{ inputs", "line 2: unexpected end of template"),
        ("{% endfor %}", "line 1: "),
        ("{{ inputs|shout }}", "No filter named 'shout'. Allowed filters: abs, "),
        ("{{ inputs is odd_looking }}", "No test named"),
    ],
)
def test_a_refusal_says_what_is_wrong(source: str, said: str):
    with pytest.raises(InvalidTemplate) as caught:
        render(source)
    assert said in caught.value.message
    assert said in caught.value.errors[0].message


def test_a_refusal_quotes_no_template():
    with pytest.raises(InvalidTemplate) as caught:
        render("The secret recipe.\n{{ inputs")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "source", "pointer"),
    [
        ("system", "{{ inputs }}", "/settings/prompt/system"),
        ("input", "{{ input }}", "/settings/prompt/input"),
        ("output", "{{ label }}", "/settings/prompt/output"),
        ("demonstration", "{{ query }}", "/settings/prompt/demonstration"),
        ("query", "{{ outputs }}", "/settings/prompt/query"),
    ],
)
def test_each_template_knows_its_own_variables(field: str, source: str, pointer: str):
    with pytest.raises(InvalidTemplate) as caught:
        PoolTemplates(PoolSettings(prompt=PromptTemplate.model_validate({field: source})))
    assert caught.value.errors[0].pointer == pointer


def test_a_query_is_an_example_without_outputs_and_metadata():
    prompt = PromptTemplate(input="{{ inputs }}{% if outputs %} ({{ metadata.lang }}){% endif %}")
    templates = PoolTemplates(PoolSettings(prompt=prompt))
    assert templates.query("q").input == "q"
    assert templates.turn("i", "o", {"lang": "en"}).input == "i (en)"


def test_the_embedded_text_follows_its_template():
    default = PoolTemplates(PoolSettings())
    assert default.embed_text({"title": "a", "body": None, "n": 3}) == "title: a\nn: 3"
    titled = PoolTemplates(PoolSettings(embed_template="{{ inputs.title }}"))
    assert titled.embed_text({"title": "a", "body": "b"}) == "a"
