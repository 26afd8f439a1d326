"""The FastAPI application: routes, problems, OpenAPI, the page."""
