"""What `newel serve` starts: the application with the settings of this environment."""

from agent_management.application import build
from agent_management.settings import Settings

app = build(Settings.from_environment())
