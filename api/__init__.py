"""The HTTP interface: what the command line answers, under /v1 (docs/http.md)."""
