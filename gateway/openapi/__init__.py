"""The description of the API, and the page that shows it, as they are sent. Both are written by
`python -m tools.openapi.write`.
"""
