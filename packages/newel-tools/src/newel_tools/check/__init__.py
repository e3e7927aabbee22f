"""The reviewer: rules over the facts of a project, findings, a verdict."""
