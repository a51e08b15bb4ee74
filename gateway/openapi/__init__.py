"""The description of the API, and the page that shows it: both written by `python -m tools.openapi.write`
and sent as they are."""
