"""What `newel serve` and `newel worker` start."""

from stress.depot.application import DepotSettings, build

app = build(DepotSettings.from_environment())
