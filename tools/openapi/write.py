"""Writes the description and its page into the gateway's package: python -m tools.openapi.write"""

from gateway.routes.documentation import DESCRIPTION, PAGE
from tools.openapi.document import document, document_text
from tools.openapi.page import page


def main() -> None:
    """Write both files."""
    DESCRIPTION.write_text(document_text(), encoding="utf-8")
    PAGE.write_text(page(document()), encoding="utf-8")


if __name__ == "__main__":
    main()
