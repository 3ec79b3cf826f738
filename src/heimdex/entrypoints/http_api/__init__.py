"""The HTTP API: many organisations behind one door. `create_app` returns the ASGI application."""

from heimdex.entrypoints.http_api.app import api_settings, create_app

__all__ = ["api_settings", "create_app"]
