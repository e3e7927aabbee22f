"""The plan of a service: what it may say, how it is written, how its things are called."""
