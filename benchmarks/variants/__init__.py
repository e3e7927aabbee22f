"""The same service, written several ways: `build()` returns the ASGI application of each."""
