"""The one description of the API, from which /openapi.json and /docs are written."""
