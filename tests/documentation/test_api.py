"""The API page names what the code reads."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.multipart import Form
from gateway.routes.asr_webservice import OUTPUTS
from gateway.routes.options import FORMATS, parse_options

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text("utf-8")


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


def test_every_field_that_is_read_has_a_place_on_the_page() -> None:
    form = FormThatRemembers()
    parse_options(form)

    assert len(form.asked) > 15
    assert {name for name in form.asked if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_place_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_of_asr_has_a_place_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE
