"""The service that `stress faults` runs: it depends on everything that a service can depend on."""
