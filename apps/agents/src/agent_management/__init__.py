"""Agent management API."""
