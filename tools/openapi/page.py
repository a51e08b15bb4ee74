"""The description as one HTML document without scripts: the page at /docs."""

import json
import re
from html import escape
from typing import Any

from tools.openapi.page_style import STYLE

Described = dict[str, Any]
LIST_ITEM = "* "


def page(document: Described) -> str:
    """The whole page."""
    return Page(document).html()


class Page:
    """One description on its way to HTML."""

    def __init__(self, document: Described) -> None:
        self._document = document

    def html(self) -> str:
        """The whole document."""
        about = self._document["info"]
        title = escape(f"{about['title']} {about['version']}")
        parts = [
            f"<h1>{title}</h1>",
            prose(about["description"]),
            '<p>For programs: <a href="openapi.json"><code>openapi.json</code></a></p>',
            self._keys(),
            *(self._section(tag) for tag in self._document["tags"]),
            self._schemas(),
        ]
        body = "\n".join(parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<title>{title}: API</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
            f"{self._contents()}\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def _operations(self, tag: str) -> list[tuple[str, str, Described, Described]]:
        return [
            (method, path, item, item[method])
            for path, item in self._document["paths"].items()
            for method in ("get", "post", "delete")
            if method in item and tag in item[method]["tags"]
        ]

    def _contents(self) -> str:
        groups = []
        for tag in self._document["tags"]:
            links = "".join(
                f'<li><a href="#{operation["operationId"]}">{_method(method)}'
                f"<code>{_path(path)}</code></a></li>"
                for method, path, _, operation in self._operations(tag["name"])
            )
            groups.append(f"<p>{escape(tag['name'])}</p><ul>{links}</ul>")
        return (
            '<nav aria-label="Contents"><details open><summary>Contents</summary>'
            f'{"".join(groups)}<p><a href="#schemas">Schemas</a></p></details></nav>'
        )

    def _keys(self) -> str:
        schemes = self._document["components"]["securitySchemes"].values()
        ways = [
            "<code>Authorization: Bearer KEY</code>"
            if scheme["type"] == "http"
            else f"<code>{escape(scheme['name'])}: KEY</code>"
            for scheme in schemes
        ]
        return (
            f"<p>Keys: {', or '.join(ways)}, where the server's operator has set keys. Health and "
            "this page need none.</p>"
        )

    def _section(self, tag: Described) -> str:
        operations = "\n".join(self._operation(*each) for each in self._operations(tag["name"]))
        return (
            f"<section><h2>{escape(tag['name'])}</h2>{prose(tag['description'])}\n{operations}"
            "</section>"
        )

    def _operation(self, method: str, path: str, item: Described, operation: Described) -> str:
        others = ", ".join(f"<code>{_path(alias)}</code>" for alias in item.get("x-aliases", ()))
        parts = [
            f'<article id="{operation["operationId"]}">',
            f"<h3>{_method(method)}<code>{_path(path)}</code></h3>",
            f'<p class="summary">{escape(operation["summary"])}</p>',
            f'<p class="also">Also {others}</p>' if others else "",
            prose(operation["description"]),
            self._parameters(operation),
            self._body(operation),
            "<h4>Answers</h4>",
            *(self._answer(status, each) for status, each in operation["responses"].items()),
            "</article>",
        ]
        return "\n".join(part for part in parts if part)

    def _parameters(self, operation: Described) -> str:
        rows = [
            _field(
                each["name"],
                {**each["schema"], "description": each["description"]},
                notes=[f"in the {each['in']}", *(["required"] if each.get("required") else [])],
            )
            for each in operation.get("parameters", ())
        ]
        return f"<h4>Parameters</h4><dl>{''.join(rows)}</dl>" if rows else ""

    def _body(self, operation: Described) -> str:
        if "requestBody" not in operation:
            return ""
        ((media_type, content),) = operation["requestBody"]["content"].items()
        return (
            f"<h4>Fields <small>{escape(media_type)}</small></h4>{_properties(content['schema'])}"
        )

    def _answer(self, status: str, answer: Described) -> str:
        first, _, rest = answer["description"].partition("\n\n")
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in answer.get("headers", ()))
        parts = [
            f'<summary><b class="s{status[0]}">{status}</b> {inline(first)}</summary>',
            prose(rest),
            *(self._content(kind, each) for kind, each in answer.get("content", {}).items()),
            f"<p>Headers: {headers}</p>" if headers else "",
        ]
        opened = " open" if status == "200" else ""
        return f"<details{opened}>{''.join(parts)}</details>"

    def _content(self, media_type: str, content: Described) -> str:
        schema = content["schema"]
        named = " or ".join(_links(schema))
        events = content.get("x-item-schema", {})
        parts = [
            f"<p><code>{escape(media_type)}</code>{' ' + named if named else ''}</p>",
            prose(schema.get("description", "")),
            f"<p>Events: {', '.join(_links(events))}</p>" if events else "",
            *([_example(content["example"])] if "example" in content else []),
            *(
                _example(example)
                for name in _names(schema)
                if name not in ("Error", "FlatError")
                for example in self._schema(name).get("examples", ())
            ),
        ]
        return "".join(parts)

    def _schema(self, name: str) -> Described:
        schema: Described = self._document["components"]["schemas"][name]
        return schema

    def _schemas(self) -> str:
        described = []
        for name in self._document["components"]["schemas"]:
            schema = self._schema(name)
            example = "".join(_example(each) for each in schema.get("examples", ()))
            described.append(
                f'<article id="schema-{name}"><h3><code>{name}</code></h3>'
                f"{prose(schema.get('description', ''))}{_shape(schema)}{example}</article>"
            )
        return f'<section id="schemas"><h2>Schemas</h2>{"".join(described)}</section>'


def prose(text: str) -> str:
    """Paragraphs and lists of CommonMark, as far as descriptions use it."""
    blocks = [block for block in text.split("\n\n") if block]
    return "".join(_block(block) for block in blocks)


def inline(text: str) -> str:
    """Code spans."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _block(block: str) -> str:
    if not block.startswith(LIST_ITEM):
        return f"<p>{inline(block)}</p>"
    items = [line.removeprefix(LIST_ITEM) for line in block.splitlines()]
    return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in items)}</ul>"


def _method(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span>'


def _path(path: str) -> str:
    """With places where a narrow screen may break it."""
    return "/" + escape(path[1:]).replace("/", "/<wbr>")


def _names(schema: Described) -> list[str]:
    if "$ref" in schema:
        return [schema["$ref"].rpartition("/")[2]]
    parts = [*schema.get("anyOf", ()), *schema.get("allOf", ())]
    return [name for part in parts for name in _names(part)]


def _links(schema: Described) -> list[str]:
    return [f'<a href="#schema-{name}"><code>{name}</code></a>' for name in _names(schema)]


def _example(example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=2)
    return f'<pre tabindex="0"><code>{escape(text.rstrip(), quote=False)}</code></pre>'


def _shape(schema: Described) -> str:
    if "properties" in schema:
        return _properties(schema)
    parts = schema.get("allOf", ())
    inherited = [f"<p>As {name}, and:</p>" for name in _links(schema)]
    own = [_properties(part) for part in parts if "properties" in part]
    return "".join((*inherited, *own, *(f"<p>{note}</p>" for note in _notes(schema))))


def _properties(schema: Described) -> str:
    required = schema.get("required", ())
    rows = [
        _field(name, each, notes=["required"] if name in required else [])
        for name, each in schema["properties"].items()
    ]
    return f"<dl>{''.join(rows)}</dl>"


def _field(name: str, schema: Described, notes: list[str]) -> str:
    kinds = [kind for kind in (_kind(schema), *map(escape, notes), *_notes(schema)) if kind]
    mark = ' <span class="ours">extension</span>' if schema.get("x-extension") else ""
    inner = _properties(schema) if "properties" in schema else ""
    return (
        f'<div><dt><code>{escape(name)}</code>{mark}<span class="kind">{", ".join(kinds)}</span>'
        f"</dt><dd>{prose(schema.get('description', ''))}{inner}</dd></div>"
    )


def _kind(schema: Described) -> str:
    if links := _links(schema):
        return " or ".join(links)
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("format") == "binary":
        return "file"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _notes(schema: Described) -> list[str]:
    """What is to be known of a value beside its type."""
    notes = []
    choices = schema.get("enum", schema.get("items", {}).get("enum"))
    if choices is not None:
        notes.append("one of " + ", ".join(f"<code>{_value(each)}</code>" for each in choices))
    if "const" in schema:
        notes.append(f"<code>{_value(schema['const'])}</code>")
    if "minimum" in schema and "maximum" in schema:
        notes.append(f"{schema['minimum']} to {schema['maximum']}")
    elif "minimum" in schema:
        notes.append(f"from {schema['minimum']}")
    if "maxItems" in schema:
        notes.append(f"at most {schema['maxItems']}")
    if "default" in schema:
        notes.append(f"default <code>{_value(schema['default'])}</code>")
    return notes


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value))
    if value == "":
        return "&quot;&quot;"
    return escape(value if isinstance(value, str) else json.dumps(value))
