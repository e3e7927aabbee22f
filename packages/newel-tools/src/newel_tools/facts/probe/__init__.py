"""The probe: runs in the reviewed project's own interpreter, with the standard library alone.

It is started by path (`python facts/probe REQUEST`), imports the application behind a guard and
writes one JSON document. Nothing here may import `newel_tools`, and everything has to run on
Python 3.9: the reviewed project chooses the interpreter, not we.
"""
