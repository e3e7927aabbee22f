"""The host: runs inside the reviewed project's interpreter, with the standard library alone.

It is started by path (`python prove/host`), imports the application behind a guard, and answers
what it is asked over a pipe, one JSON document a line. Nothing here may import `newel_tools`, and
everything has to run on Python 3.9: the reviewed project chooses the interpreter, not we.
"""
