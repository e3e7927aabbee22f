"""Breaks a FastAPI application on purpose, on a throw-away database, and reports what gave way."""
