"""The probes, one a file; each has an application that it breaks and one that withstands it."""
