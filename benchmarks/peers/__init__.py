"""The same service on other people's libraries, in an environment of their own."""
