"""The rules, one a file; see `newel_tools.check.rule`."""
