"""HTTP: each route translates a request and calls one thing."""
