"""What each role may do: sets of `resource:verb`; `*` is everything."""

ROLES: dict[str, frozenset[str]] = {
    "user": frozenset(
        {
            "agents:read",
            "executions:read",
            "agents:write",
            "executions:write",
            "files:read",
            "files:write",
        }
    ),
    "reader": frozenset({"agents:read", "executions:read"}),
    "admin": frozenset({"*"}),
}
