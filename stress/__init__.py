"""Scenarios that break a running service and check its promises; see docs/reliability.md."""
