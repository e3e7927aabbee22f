# ruff: noqa: INP001 - a file that Alembic executes, not a module of a package
"""What Alembic executes for each command; ``newel.migrations`` hands the connection over."""

from alembic import context

options = context.config.attributes["newel_options"]
context.configure(**options)
with context.begin_transaction():
    context.run_migrations()
