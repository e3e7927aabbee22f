"""What `newel serve` starts."""

from stress.desk.application import DeskSettings, build

app = build(DeskSettings.from_environment())
