"""From a plan to a service on disk."""
