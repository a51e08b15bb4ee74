"""The description of the API says what the code does, and its files are those it makes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.datastructures import QueryParams

from gateway.app import all_routes
from gateway.context import Gateway
from gateway.errors import ApiError, BadRequest
from gateway.formats.cue_rules import rules_for
from gateway.multipart import Form
from gateway.routes.asr_webservice import PASSED_ON, parse_query
from gateway.routes.documentation import DESCRIPTION, PAGE
from gateway.routes.options import TranscriptionOptions, parse_options
from gateway.routes.predecessor import MODES
from gateway.routes.translations import parse_translation
from gateway.settings import Settings
from gateway.spool import Spool
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient
from tests.gateway.harness import GATEWAY_ID
from tools.openapi.document import document, document_text
from tools.openapi.errors import CODES
from tools.openapi.page import page

DOCUMENT = document()
API_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text("utf-8")
UNREAD = {"file", "model", "chunking_strategy"}
"""Fields that no code asks for: the recording, and what is taken without effect."""
OTHER_BOUND = {
    "min_cue_seconds": ("max_cue_seconds", "60"),
    "max_cue_seconds": ("min_cue_seconds", "0.1"),
}


@dataclass(frozen=True)
class FormThatRemembers(Form):
    """An empty form that knows which fields were asked for."""

    asked: set[str] = field(default_factory=set)

    def text(self, name: str) -> str | None:
        self.asked.add(name)
        return Form.text(self, name)

    def texts(self, name: str) -> tuple[str, ...]:
        self.asked.add(f"{name}[]")
        return Form.texts(self, name)


class QueryThatRemembers(dict[str, str]):
    """An empty query that knows which parameters were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return default

    def multi_items(self) -> list[tuple[str, str]]:
        self.asked |= set(PASSED_ON)
        return []


def operation_of(path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path]["post"]
    return found


def form_of(path: str) -> dict[str, Any]:
    content = operation_of(path)["requestBody"]["content"]
    properties: dict[str, Any] = content["multipart/form-data"]["schema"]["properties"]
    return properties


def parameters_of(path: str) -> dict[str, Any]:
    return {each["name"]: each["schema"] for each in operation_of(path)["parameters"]}


TRANSCRIPTION = form_of("/v1/audio/transcriptions")
TRANSLATION = form_of("/v1/audio/translations")
NUMBERS = [name for name, schema in TRANSCRIPTION.items() if "maximum" in schema]
CHOICES = [
    (name, choice)
    for name, schema in TRANSCRIPTION.items()
    for choice in schema.get("enum", schema.get("items", {}).get("enum", ()))
]


def parsed(*fields: tuple[str, object]) -> TranscriptionOptions:
    return parse_options(Form(tuple((name, str(value)) for name, value in fields)))


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == "$ref")
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(Settings(data_dir=tmp_path), FakeWorkerClient(), Spool(tmp_path, GATEWAY_ID))


def test_the_files_are_what_the_description_makes() -> None:
    written_by = "python -m tools.openapi.write"

    assert DESCRIPTION.read_text("utf-8") == document_text(), written_by
    assert PAGE.read_text("utf-8") == page(document()), written_by


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        _, *way = reference.split("/")
        found: Any = DOCUMENT
        for step in way:
            found = found[step]

        assert found


def test_every_link_of_the_page_leads_somewhere() -> None:
    html = PAGE.read_text("utf-8")
    links = set(re.findall(r'href="([^"]+)"', html))

    assert {link for link in links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in links if link[0] == "#"} <= set(re.findall(r'id="([^"]+)"', html))


def test_the_page_loads_nothing() -> None:
    html = PAGE.read_text("utf-8")

    assert re.findall(r"<(?:script|link|img|iframe)\b|\bsrc=|url\(|@import", html) == []


def test_the_page_shows_every_operation_and_every_field() -> None:
    html = PAGE.read_text("utf-8")
    operations = [
        operation
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method in ("get", "post")
    ]

    assert [each["summary"] for each in operations if escape(each["summary"]) not in html] == []
    fields = {*TRANSCRIPTION, *TRANSLATION, *parameters_of("/asr")}
    assert [name for name in sorted(fields) if f"<dt><code>{name}</code>" not in html] == []


def test_every_path_and_method_that_is_served_is_described_and_no_other(gateway: Gateway) -> None:
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in all_routes(gateway)
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method)
        for name, item in DOCUMENT["paths"].items()
        for path in (name, *item.get("x-aliases", ()))
        for method in item
        if method != "x-aliases"
    }

    assert described == served


def test_every_operation_has_a_name_of_its_own_and_a_tag_that_is_there() -> None:
    operations = [
        each for item in DOCUMENT["paths"].values() for each in item.values() if "tags" in each
    ]
    names = [each["operationId"] for each in operations]

    assert len(names) == len(set(names))
    assert {tag for each in operations for tag in each["tags"]} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }


def test_every_field_of_transcriptions_is_described_and_no_other() -> None:
    form = FormThatRemembers()
    parse_options(form)

    assert set(TRANSCRIPTION) == form.asked | UNREAD


def test_every_field_of_translations_is_described_and_no_other() -> None:
    form = FormThatRemembers()
    parse_translation(form)

    assert set(TRANSLATION) == form.asked | UNREAD


def test_every_parameter_of_asr_is_described_and_no_other() -> None:
    query = QueryThatRemembers()
    parse_query(query)  # type: ignore[arg-type]  # what it reads of one

    assert set(parameters_of("/asr")) == query.asked


def test_every_choice_of_asr_is_taken() -> None:
    for name in ("task", "output"):
        for choice in parameters_of("/asr")[name]["enum"]:
            assert parse_query(QueryParams({name: choice}))


def test_modes_of_subtitles_are_those_of_the_code() -> None:
    assert tuple(form_of("/v1/audio/subtitles")["mode"]["enum"]) == MODES


@pytest.mark.parametrize("name", NUMBERS)
def test_the_limits_of_a_number_are_those_of_the_code(name: str) -> None:
    schema = TRANSCRIPTION[name]
    step = 1 if schema["type"] == "integer" else 0.01
    others = [OTHER_BOUND[name]] if name in OTHER_BOUND else []

    for limit in (schema["minimum"], schema["maximum"]):
        assert parsed((name, limit), *others)
    for beyond in (schema["minimum"] - step, schema["maximum"] + step):
        with pytest.raises(BadRequest):
            parsed((name, beyond), *others)


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_every_choice_of_a_field_is_taken(name: str, choice: str) -> None:
    assert parsed((name, choice))


@pytest.mark.parametrize("name", sorted({name for name, _ in CHOICES}))
def test_another_choice_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        parsed((name, "another"))


@pytest.mark.parametrize(
    "name", [name for name, schema in TRANSCRIPTION.items() if "default" in schema]
)
def test_a_default_changes_nothing(name: str) -> None:
    default = TRANSCRIPTION[name]["default"]
    values = default if isinstance(default, list) else [default]
    options = parsed(*((name, value) for value in values))

    if "cue" in name or name == "max_lines":
        assert rules_for(None, **options.cue_rules) == rules_for(None)  # type: ignore[arg-type]
    else:
        assert options == TranscriptionOptions()


def test_a_prompt_and_keywords_hold_what_is_described() -> None:
    longest = TRANSCRIPTION["prompt"]["maxLength"]
    most = TRANSCRIPTION["keywords[]"]["maxItems"]

    assert parsed(("prompt", "a" * longest))
    assert parsed(*[("keywords[]", "a")] * most)
    with pytest.raises(BadRequest):
        parsed(("prompt", "a" * (longest + 1)))
    with pytest.raises(BadRequest):
        parsed(*[("keywords[]", "a")] * (most + 1))


def subclasses(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_every_code_of_an_error_is_described_with_its_status() -> None:
    of_classes = {kind.code for kind in subclasses(ApiError)}
    told_otherwise = {FailureCode.CANCELLED, FailureCode.CHANNELS_MISSING}
    of_failures = {str(code) for code in FailureCode} - told_otherwise

    assert of_classes | of_failures <= set(CODES)
    assert CODES["invalid_value"][0] == BadRequest.status


def test_codes_and_statuses_are_those_of_the_api_page() -> None:
    section = API_PAGE.partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", section, re.MULTILINE)
    on_page = {
        code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)
    }

    assert {code: status for code, (status, _) in CODES.items()} == on_page


def test_every_schema_is_one_and_its_examples_fit() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", ()):
            checked = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
            assert [each.message for each in checked.iter_errors(example)] == [], name
