"""The service under abuse and overload: a help desk."""
