"""OpenAPI documents: read, resolved, and their schemas understood."""
