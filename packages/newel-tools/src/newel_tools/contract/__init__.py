"""The contract of an API: what changed between two OpenAPI documents, and whom it breaks."""
